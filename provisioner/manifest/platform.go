package manifest

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/cpu"

	"github.com/berth-dev/berth/containerizer"
)

// ParsePlatform reads "os/arch[/variant]", or "arch" alone for Linux; "" is the
// node's platform.
func ParsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return Host(), nil
	}
	parts := strings.Split(s, "/")
	if len(parts) == 1 {
		parts = []string{"linux", s}
	}
	for _, p := range parts {
		if p == "" || len(parts) > 3 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" {
			return v1.Platform{}, invalid("platform %q is not of the form os/arch[/variant]", s)
		}
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	p = normalize(p)
	if p.OS != "linux" {
		return v1.Platform{}, unsupported("platform %q: only Linux containers are possible", s)
	}
	return p, nil
}

// Host is the platform of this node.
func Host() v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	switch p.Architecture {
	case "amd64":
		p.Variant = "v" + strconv.Itoa(amd64Level())
	case "arm64":
		p.Variant = "v8"
	}
	return p
}

// amd64Level is the micro-architecture level of the x86-64 psABI.
func amd64Level() int {
	x := cpu.X86
	v2 := x.HasCX16 && x.HasPOPCNT && x.HasSSE3 && x.HasSSE41 && x.HasSSE42 && x.HasSSSE3
	v3 := v2 && x.HasAVX && x.HasAVX2 && x.HasBMI1 && x.HasBMI2 && x.HasFMA && x.HasOSXSAVE
	v4 := v3 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL
	switch {
	case v4:
		return 4
	case v3:
		return 3
	case v2:
		return 2
	}
	return 1
}

// normalize brings the names that tools use into Go's, with explicit variants.
func normalize(p v1.Platform) v1.Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture = strings.ToLower(p.Architecture)
	p.Variant = strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i686":
		p.Architecture, p.Variant = "386", ""
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if _, err := strconv.Atoi(p.Variant); err == nil {
		p.Variant = "v" + p.Variant
	}
	if p.Variant == "" {
		p.Variant = map[string]string{"arm": "v7", "arm64": "v8", "amd64": "v1"}[p.Architecture]
	}
	return p
}

// Matches says how well an image for have runs where want is asked for: 0 not at
// all, else the more the better. A machine runs the variants up to its own.
func Matches(want, have v1.Platform) int {
	want, have = normalize(want), normalize(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return 0
	}
	if want.Variant == have.Variant {
		return 1000
	}
	w, wok := level(want.Variant)
	h, hok := level(have.Variant)
	if !wok || !hok || h > w {
		return 0
	}
	return h
}

func level(variant string) (int, bool) {
	major, _, _ := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	n, err := strconv.Atoi(major)
	return n, err == nil && n > 0 && n < 1000
}

// Choose finds the entry of an index that fits best, the first of equals. An
// entry that names no platform is the last choice. The error lists what there is.
func Choose(x *v1.Index, want v1.Platform) (v1.Descriptor, error) {
	best, score := -1, 0
	var have []string
	for i, d := range x.Manifests {
		s := 0
		switch {
		case d.Platform == nil && plausible(d):
			s, have = -1, append(have, "unknown")
		case d.Platform == nil, d.Platform.OS == "unknown" || d.Annotations["vnd.docker.reference.type"] != "":
			continue // attestations and artifacts
		default:
			s, have = Matches(want, *d.Platform), append(have, String(*d.Platform))
		}
		if s > score || best < 0 && s != 0 || score == -1 && s > 0 {
			best, score = i, s
		}
	}
	if best < 0 {
		return v1.Descriptor{}, fmt.Errorf("there is no image for %s (there is: %s): %w", String(want), strings.Join(have, ", "), containerizer.ErrNotFound)
	}
	return x.Manifests[best], nil
}

// plausible says whether an entry without platform may be an image.
func plausible(d v1.Descriptor) bool {
	switch d.MediaType {
	case v1.MediaTypeImageManifest, DockerManifest, v1.MediaTypeImageIndex, DockerManifestList, "":
		return d.ArtifactType == ""
	}
	return false
}

// String is the form users write.
func String(p v1.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// CheckPlatform compares what an image says of itself with what was asked for.
func CheckPlatform(c *v1.Image, want v1.Platform) error {
	if c.Architecture == "" && c.OS == "" || Matches(want, c.Platform) > 0 {
		return nil
	}
	return fmt.Errorf("the image is for %s, not for %s: %w", String(c.Platform), String(want), containerizer.ErrNotFound)
}
