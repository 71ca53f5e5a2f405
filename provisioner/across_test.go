package provisioner_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

// TestAcrossLayers has what one layer does to another: the decisions that the property
// test takes for granted, by name.
func TestAcrossLayers(t *testing.T) {
	for name, tt := range map[string]struct {
		layers [][]string
		want   []string
	}{
		// As Docker and containerd have it: a link of a lower layer is not followed.
		"a link of a lower layer as a parent": {
			[][]string{{"d usr 755", "d usr/bin 755", "f usr/bin/x 1", "l bin usr/bin"}, {"f bin/foo 2"}},
			[]string{"bin drwxr-xr-x", "bin/foo -rw-r--r-- 2", "usr drwxr-xr-x", "usr/bin drwxr-xr-x", "usr/bin/x -rw-r--r-- 1"},
		},
		"unlisted parents keep what lower layers say": {
			[][]string{{"d a 711", "d a/b 750", "f a/b/x 1"}, {"f a/b/y 2"}, {"f a/z 3"}},
			[]string{"a drwx--x--x", "a/b drwxr-x---", "a/b/x -rw-r--r-- 1", "a/b/y -rw-r--r-- 2", "a/z -rw-r--r-- 3"},
		},
		"an unlisted parent does not keep what was hidden": {
			[][]string{{"d a 700", "f a/x 1"}, {"f .wh.a ", "f a/y 2"}},
			[]string{"a drwxr-xr-x", "a/y -rw-r--r-- 2"},
		},
		"the last entry for the root": {
			[][]string{{"d ./ 711", "f x 1"}, {"d ./ 750"}, {"f y 2"}},
			[]string{"x -rw-r--r-- 1", "y -rw-r--r-- 2"},
		},
		"a hard link into a lower layer": {
			[][]string{{"d d 700", "f d/f one"}, {"h h /d/f"}},
			[]string{"d drwx------", "d/f -rw-r--r-- one", "h -rw-r--r-- one"},
		},
		"whiteouts of whiteouts": {
			[][]string{{"f a 1", "d d 755", "f d/x 1"}, {"f .wh.a ", "f .wh.d "}, {"f .wh.a ", "d d 755", "f d/.wh.x "}},
			[]string{"d drwxr-xr-x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := ". drwxr-xr-x"
			if strings.Contains(name, "the root") {
				root = ". drwxr-x---"
			}
			f := newFakeFetcher()
			var layers [][]byte
			for _, l := range tt.layers {
				layers = append(layers, layerTar(t, l...))
			}
			f.image("app", layers...)
			for backend, change := range backends() {
				p, _ := newStore(t, f, change)
				got, err := p.Provision(t.Context(), "c", source("app"))
				must(t, err)
				if diff := cmp.Diff(append([]string{root}, tt.want...), shown(t, mountRootfs(t, got.Rootfs))); diff != "" {
					t.Errorf("%s (-want +got):\n%s", backend, diff)
				}
			}
		})
	}
}

// TestHardLinksToNothing: a target that comes later in the archive, that the layer
// itself hides, that is a directory below, or that no layer has.
func TestHardLinksToNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		layers [][]string
		want   string
	}{
		"forward":   {[][]string{{"h h later", "f later 1"}}, "no layer has the target"},
		"nowhere":   {[][]string{{"f a 1"}, {"h h gone"}}, "no layer has the target"},
		"directory": {[][]string{{"d d 755"}, {"h h d"}}, "is a directory"},
		"hidden":    {[][]string{{"d d 755", "f d/f 1"}, {"f .wh.d ", "h h d/f"}}, `hard link "h" to "d/f"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			var layers [][]byte
			for _, l := range tt.layers {
				layers = append(layers, layerTar(t, l...))
			}
			f.image("app", layers...)
			p, root := newStore(t, f)
			_, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{})
			if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true}); err != nil {
				t.Error(err)
			}
			wantClean(t, p, root)
		})
	}
}
