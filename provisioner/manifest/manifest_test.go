package manifest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
)

const (
	dgst   = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + dgst + `","size":0}`
	layer  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + dgst + `","size":1}`
)

func describe(mediaType, raw string) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromString(raw), Size: int64(len(raw))}
}

func TestParse(t *testing.T) {
	m := `{"schemaVersion":2,` + config + `,"layers":[` + layer + `]}`
	for name, tt := range map[string]struct {
		mediaType, raw string
		index          bool
	}{
		"oci":             {v1.MediaTypeImageManifest, m, false},
		"docker":          {manifest.DockerManifest, `{"schemaVersion":2,"mediaType":"` + manifest.DockerManifest + `",` + config + `,"layers":[]}`, false},
		"untyped":         {"", m, false},
		"plain text":      {"text/plain; charset=utf-8", m, false},
		"index":           {v1.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`, true},
		"list":            {manifest.DockerManifestList, `{"schemaVersion":2,"manifests":[]}`, true},
		"index by fields": {"", `{"schemaVersion":2,"manifests":[]}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := manifest.Parse(describe(tt.mediaType, tt.raw), []byte(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			if (doc.Index != nil) != tt.index || (doc.Manifest != nil) == tt.index {
				t.Errorf("got %+v", doc)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	oci := v1.MediaTypeImageManifest
	for name, tt := range map[string]struct{ mediaType, raw, want string }{
		"schema 1":         {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`, "schema 1 is not supported"},
		"schema 1 fields":  {"", `{"schemaVersion":2,"fsLayers":[]}`, "schema 1 is not supported"},
		"both kinds":       {oci, `{"schemaVersion":2,"manifests":[],` + config + `,"layers":[]}`, "both an index and a manifest"},
		"layers in index":  {v1.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"layers":[]}`, "both an index and a manifest"},
		"called otherwise": {oci, `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`, "it calls itself"},
		"neither":          {"", `{"schemaVersion":2}`, "neither an index nor a manifest"},
		"index without":    {v1.MediaTypeImageIndex, `{"schemaVersion":2}`, "no list of manifests"},
		"other media type": {"application/x-helm", `{"schemaVersion":2,` + config + `}`, "is not an image's"},
		"version":          {oci, `{}`, "schemaVersion is 0"},
		"not json":         {oci, `<html>`, "parse"},
		"bad digest":       {oci, `{"schemaVersion":2,"config":{"digest":"sha256:../../x"},"layers":[]}`, "hexadecimal digits"},
		"upper case":       {oci, `{"schemaVersion":2,"config":{"digest":"` + strings.ToUpper(dgst) + `"},"layers":[]}`, "only sha256"},
		"algorithm":        {oci, `{"schemaVersion":2,"config":{"digest":"md5:00"},"layers":[]}`, "only sha256"},
		"negative size":    {oci, `{"schemaVersion":2,"config":{"digest":"` + dgst + `","size":-1},"layers":[]}`, "has the size -1"},
		"many layers":      {oci, `{"schemaVersion":2,` + config + `,"layers":[` + strings.Repeat(layer+",", 499) + layer + `]}`, "500 layers"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Parse(describe(tt.mediaType, tt.raw), []byte(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
				t.Errorf("error %v has no class", err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	d := describe("", "abc")
	if err := manifest.Verify(d, []byte("abc")); err != nil {
		t.Error(err)
	}
	for _, raw := range []string{"abd", "ab", ""} {
		if err := manifest.Verify(d, []byte(raw)); !errors.Is(err, containerizer.ErrDataCorrupt) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	long := v1.Descriptor{Digest: digest.SHA512.FromString("abc"), Size: 3}
	if err := manifest.Verify(long, []byte("abc")); err != nil {
		t.Error(err)
	}
}

func TestCheckRunnable(t *testing.T) {
	layers := func(types ...string) (out []v1.Descriptor) {
		for _, m := range types {
			out = append(out, v1.Descriptor{MediaType: m, Digest: dgst})
		}
		return out
	}
	image := v1.Descriptor{MediaType: v1.MediaTypeImageConfig}
	for name, tt := range map[string]struct {
		m    v1.Manifest
		want string
	}{
		"oci":       {v1.Manifest{Config: image, Layers: layers(v1.MediaTypeImageLayer, v1.MediaTypeImageLayerZstd, manifest.DockerLayerGzip)}, ""},
		"encrypted": {v1.Manifest{Config: image, Layers: layers(v1.MediaTypeImageLayerGzip + "+encrypted")}, "is encrypted"},
		"erofs":     {v1.Manifest{Config: image, Layers: layers("application/vnd.erofs.layer.v1")}, "cannot be unpacked"},
		"helm":      {v1.Manifest{Config: v1.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json"}, Layers: layers("x")}, "artifact of type \"application/vnd.cncf.helm"},
		"artifact":  {v1.Manifest{ArtifactType: "a/b", Config: v1.Descriptor{MediaType: v1.MediaTypeEmptyJSON}, Layers: layers("x")}, "artifact of type \"a/b\""},
		"empty":     {v1.Manifest{Config: image}, "no layers"},
	} {
		t.Run(name, func(t *testing.T) {
			err := manifest.CheckRunnable(&tt.m)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for name, tt := range map[string]struct{ raw, want string }{
		"good":       {`{"rootfs":{"type":"layers","diff_ids":["` + dgst + `"]}}`, ""},
		"too few":    {`{"rootfs":{"type":"layers","diff_ids":[]}}`, "0 diffIDs for 1 layers"},
		"artifact":   {`{}`, "no image to run"},
		"bad diffID": {`{"rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}`, "hexadecimal"},
		"sha512":     {`{"rootfs":{"type":"layers","diff_ids":["` + digest.SHA512.FromString("").String() + `"]}}`, "only sha256"},
		"not json":   {`x`, "parse"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &v1.Manifest{Config: describe("", tt.raw), Layers: make([]v1.Descriptor, 1)}
			_, err := manifest.Config(m, []byte(tt.raw))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	entry := func(p string) v1.Descriptor {
		d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Annotations: map[string]string{"n": p}}
		if p != "" {
			parts := append(strings.Split(p, "/"), "")
			d.Platform = &v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
		}
		return d
	}
	for name, tt := range map[string]struct {
		have       []string
		want, best string
	}{
		"plain":           {[]string{"linux/arm64", "linux/amd64"}, "linux/amd64", "linux/amd64"},
		"highest variant": {[]string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4", "linux/amd64/v3"}, "linux/amd64/v3", "linux/amd64/v3"},
		"below":           {[]string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v7", "linux/arm/v6"},
		"arm64 default":   {[]string{"linux/arm64"}, "linux/arm64/v8", "linux/arm64"},
		"aliases":         {[]string{"linux/x86_64"}, "linux/amd64", "linux/x86_64"},
		"first of equals": {[]string{"linux/amd64", "linux/amd64/v1"}, "linux/amd64", "linux/amd64"},
		"none given last": {[]string{"", "linux/amd64"}, "linux/amd64", "linux/amd64"},
		"none given only": {[]string{"linux/s390x", ""}, "linux/amd64", ""},
		"attestations":    {[]string{"unknown/unknown", "linux/amd64"}, "linux/amd64", "linux/amd64"},
		"too new":         {[]string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm/v6", "linux/arm/v6"},
	} {
		t.Run(name, func(t *testing.T) {
			var x v1.Index
			for _, p := range tt.have {
				x.Manifests = append(x.Manifests, entry(p))
			}
			want, err := manifest.ParsePlatform(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			d, err := manifest.Choose(&x, want)
			if err != nil {
				t.Fatal(err)
			}
			if d.Annotations["n"] != tt.best {
				t.Errorf("chose %q, want %q", d.Annotations["n"], tt.best)
			}
		})
	}
	_, err := manifest.Choose(&v1.Index{Manifests: []v1.Descriptor{entry("linux/arm64"), entry("windows/amd64")}}, manifest.Host())
	if !errors.Is(err, containerizer.ErrNotFound) || !strings.Contains(fmt.Sprint(err), "linux/arm64, windows/amd64") && manifest.Host().Architecture == "amd64" {
		t.Errorf("error %v", err)
	}
}

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{"linux/arm64": "linux/arm64/v8", "arm64": "linux/arm64/v8", "linux/arm/7": "linux/arm/v7", "Linux/AMD64": "linux/amd64/v1", "": manifest.String(manifest.Host())} {
		p, err := manifest.ParsePlatform(in)
		if err != nil || manifest.String(p) != want {
			t.Errorf("ParsePlatform(%q) = %s, %v; want %s", in, manifest.String(p), err, want)
		}
	}
	for _, in := range []string{"/", "a/b/c/d", "linux/", "windows/amd64", "linux/a b"} {
		if _, err := manifest.ParsePlatform(in); err == nil {
			t.Errorf("ParsePlatform(%q) succeeded", in)
		}
	}
}

// FuzzParse checks that accepted documents have checked digests and counts.
func FuzzParse(f *testing.F) {
	f.Add("", []byte(`{"schemaVersion":2,`+config+`,"layers":[`+layer+`]}`))
	f.Add(v1.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+layer+`]}`))
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		doc, err := manifest.Parse(v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw)}, raw)
		if err != nil {
			return
		}
		if doc.Index != nil {
			_, _ = manifest.Choose(doc.Index, manifest.Host())
			return
		}
		for _, d := range append(doc.Manifest.Layers, doc.Manifest.Config) {
			if manifest.CheckDigest(d.Digest) != nil || strings.Contains(string(d.Digest), "/") {
				t.Fatalf("accepted %q", d.Digest)
			}
		}
		var again any
		if json.Unmarshal(raw, &again) != nil {
			t.Fatal("accepted what is not JSON")
		}
		_ = manifest.CheckRunnable(doc.Manifest)
	})
}
