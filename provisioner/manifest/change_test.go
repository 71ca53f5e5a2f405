package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
)

func TestChange(t *testing.T) {
	tests := map[string]struct {
		changes []string
		want    v1.ImageConfig
	}{
		"command as a list": {[]string{`CMD ["a", "b c"]`}, v1.ImageConfig{Cmd: []string{"a", "b c"}}},
		"command as a line": {[]string{"cmd a b"}, v1.ImageConfig{Cmd: []string{"/bin/sh", "-c", "a b"}}},
		"not a list":        {[]string{"ENTRYPOINT [ -f /x ]"}, v1.ImageConfig{Entrypoint: []string{"/bin/sh", "-c", "[ -f /x ]"}}},
		"environment": {
			[]string{`ENV A=b C="d e" F='g "h"' I=j\ k`, "ENV A=z", "ENV OLD the rest of it"},
			v1.ImageConfig{Env: []string{"C=d e", `F=g "h"`, "I=j k", "A=z", "OLD=the rest of it"}},
		},
		"labels":  {[]string{"LABEL a=b c=", "LABEL x y"}, v1.ImageConfig{Labels: map[string]string{"a": "b", "c": "", "x": "y"}}},
		"ports":   {[]string{"EXPOSE 80 53/udp"}, v1.ImageConfig{ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}}},
		"volumes": {[]string{"VOLUME /a /b", `VOLUME ["/c d"]`}, v1.ImageConfig{Volumes: map[string]struct{}{"/a": {}, "/b": {}, "/c d": {}}}},
		"others":  {[]string{"USER app:app", "WORKDIR /w", "STOPSIGNAL SIGQUIT"}, v1.ImageConfig{User: "app:app", WorkingDir: "/w", StopSignal: "SIGQUIT"}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			var got v1.ImageConfig
			for _, s := range c.changes {
				if err := manifest.Change(&got, s); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
	for change, class := range map[string]error{
		"": containerizer.ErrInvalid, "CMD": containerizer.ErrInvalid, "RUN x": containerizer.ErrInvalid, "WORKDIR x": containerizer.ErrInvalid,
		"ENV A": containerizer.ErrInvalid, `ENV A="b`: containerizer.ErrInvalid, "ENV =b": containerizer.ErrInvalid, "LABEL a=b c": containerizer.ErrInvalid,
		"ENV ''": containerizer.ErrInvalid, "USER a\x00b": containerizer.ErrInvalid, "ONBUILD RUN x": containerizer.ErrUnsupported,
	} {
		if err := manifest.Change(&v1.ImageConfig{}, change); !errors.Is(err, class) {
			t.Errorf("%q: error %v, want %v", change, err, class)
		}
	}
}

func FuzzChange(f *testing.F) {
	for _, s := range []string{"ENV A=b", `ENV A="b c" D='`, "LABEL a b", `CMD ["x"]`, "VOLUME [", "EXPOSE 1", `ENV a\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c v1.ImageConfig
		if manifest.Change(&c, s) != nil {
			return
		}
		for _, e := range c.Env {
			if key, _, found := strings.Cut(e, "="); !found || key == "" {
				t.Errorf("%q gave the variable %q", s, e)
			}
		}
	})
}
