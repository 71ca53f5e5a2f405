// Package manifest reads the documents of images: indexes, manifests and
// configurations, in the media types of OCI and Docker schema 2, and chooses the
// platform.
//
// Everything it reads is hostile: bytes are verified against their digest before
// they are parsed, sizes and counts are limited, and a document that could be
// read as two kinds is refused (CVE-2021-41190). The raw bytes stay what counts;
// nothing is ever encoded again.
package manifest
