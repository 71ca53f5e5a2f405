// Package reference reads the names that people give to images, in the forms of
// Docker and of skopeo, and turns them into one canonical string each.
//
//	debian                           docker.io/library/debian:latest
//	docker://quay.io/org/app:1.2     quay.io/org/app:1.2
//	app:1.2@sha256:…                 docker.io/library/app@sha256:…  (the tag is not trusted beside a digest)
//	oci:dir:tag                      oci:/abs/dir:tag
//	oci-archive:file.tar:tag         oci-archive:/abs/file.tar:tag
//	docker-archive:file.tar:name     docker-archive:/abs/file.tar:name
//
// It has no dependency on a registry client: the launch path uses it for every
// container. Main invariant: parsing a canonical string gives the same reference.
package reference
