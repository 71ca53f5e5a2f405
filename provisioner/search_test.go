package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// searching looks for names without a dot in several registries.
type searching struct {
	*fakeFetcher
	fail map[string]error
}

func (f *searching) Search(ref string) ([]string, bool, error) {
	if strings.Contains(ref, ".") {
		return []string{ref}, false, nil
	}
	return []string{"one.example/" + ref, "two.example/" + ref, "three.example/" + ref}, false, nil
}

func (f *searching) Connect(ctx context.Context, name string, auth *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	if err := f.fail[name]; err != nil {
		return nil, fmt.Errorf("connect to %q: %w", name, err)
	}
	return f.fakeFetcher.Connect(ctx, name, auth)
}

func TestSearch(t *testing.T) {
	needRoot(t)
	f := &searching{fakeFetcher: newFakeFetcher(), fail: map[string]error{"one.example/denied": containerizer.ErrPermission, "one.example/down": containerizer.ErrUnavailable}}
	for _, name := range []string{"two.example/app", "three.example/app", "three.example/denied", "two.example/down"} {
		f.image(name, layerTar(t, "f name "+name))
	}
	p, _ := newStore(t, f)
	pull := func(ref string, policy containerizer.PullPolicy) (string, error) {
		i, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: ref, Pull: policy}, containerizer.PullOptions{})
		if err != nil {
			return "", err
		}
		return strings.Join(i.References, " "), nil
	}
	for ref, want := range map[string]string{"app": "two.example/app", "denied": "three.example/denied", "three.example/app": "three.example/app"} {
		if got, err := pull(ref, containerizer.PullAlways); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	// A registry that does not answer may have it: no other one steps in.
	if got, err := pull("down", containerizer.PullAlways); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("down: %q, %v", got, err)
	}
	if _, err := pull("nowhere", containerizer.PullAlways); !errors.Is(err, containerizer.ErrNotFound) || strings.Count(err.Error(), "nowhere") < 3 {
		t.Errorf("nowhere: %v, want all that were asked", err)
	}
	// What is in the store is found by the name that was asked for.
	for _, policy := range []containerizer.PullPolicy{containerizer.PullMissing, containerizer.PullNever} {
		if got, err := pull("app", policy); err != nil || got != "two.example/app" {
			t.Errorf("pull %q: %q, %v", policy, got, err)
		}
	}
	if i, err := p.Inspect(t.Context(), "denied"); err != nil || i.References[0] != "three.example/denied" {
		t.Errorf("inspect: %+v, %v", i, err)
	}
	if got, err := p.Provision(t.Context(), "c", containerizer.ImageSource{Reference: "app"}); err != nil || got.Reference != "two.example/app" {
		t.Errorf("provision: %+v, %v", got, err)
	}
	if _, err := p.Remove(t.Context(), "denied", false); err != nil {
		t.Errorf("remove: %v", err)
	}
}
