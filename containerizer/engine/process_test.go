package engine

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

func TestEffectiveProcessCommand(t *testing.T) {
	img := &v1.ImageConfig{Entrypoint: []string{"ep"}, Cmd: []string{"cmd", "arg"}}
	onlyCmd := &v1.ImageConfig{Cmd: []string{"cmd"}}
	for name, c := range map[string]struct {
		entrypoint, args []string
		img              *v1.ImageConfig
		wantEntry, want  []string
		err              error
	}{
		"nothing, of image":             {nil, nil, img, []string{"ep"}, []string{"cmd", "arg"}, nil},
		"args replace cmd":              {nil, []string{"x"}, img, []string{"ep"}, []string{"x"}, nil},
		"empty args drop cmd":           {nil, []string{}, img, []string{"ep"}, []string{}, nil},
		"entrypoint drops cmd":          {[]string{"mine"}, nil, img, []string{"mine"}, nil, nil},
		"entrypoint and args":           {[]string{"mine"}, []string{"x"}, img, []string{"mine"}, []string{"x"}, nil},
		"empty entrypoint with args":    {[]string{}, []string{"x"}, img, []string{}, []string{"x"}, nil},
		"empty entrypoint without args": {[]string{}, nil, img, nil, nil, containerizer.ErrInvalid},
		"image with cmd only":           {nil, nil, onlyCmd, nil, []string{"cmd"}, nil},
		"args over cmd only":            {nil, []string{"x", "y"}, onlyCmd, nil, []string{"x", "y"}, nil},
		"no image":                      {nil, []string{"x"}, nil, nil, []string{"x"}, nil},
		"no image and no command":       {nil, nil, nil, nil, nil, containerizer.ErrInvalid},
		"empty command":                 {nil, []string{""}, nil, nil, nil, containerizer.ErrInvalid},
		"empty first argument later":    {[]string{"e"}, []string{""}, nil, []string{"e"}, []string{""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := effectiveProcess(containerizer.Process{Entrypoint: c.entrypoint, Args: c.args}, c.img)
			if !errors.Is(err, c.err) {
				t.Fatalf("error = %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(c.wantEntry, got.Entrypoint); diff != "" {
				t.Errorf("Entrypoint (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.want, got.Args); diff != "" {
				t.Errorf("Args (-want +got):\n%s", diff)
			}
			again, err := effectiveProcess(got, c.img)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append(got.Entrypoint, got.Args...), append(again.Entrypoint, again.Args...)); diff != "" && c.wantEntry != nil {
				t.Errorf("merging again changes the command (-once +twice):\n%s", diff)
			}
		})
	}
}

func TestEffectiveProcessRest(t *testing.T) {
	img := &v1.ImageConfig{
		Cmd: []string{"c"}, Env: []string{"PATH=/img", "A=img", "BROKEN", "=x"}, WorkingDir: "/img", User: "img",
	}
	for name, c := range map[string]struct {
		p    containerizer.Process
		img  *v1.ImageConfig
		want containerizer.Process
	}{
		"image": {
			containerizer.Process{},
			img,
			containerizer.Process{Args: []string{"c"}, Env: []string{"PATH=/img", "A=img"}, WorkingDir: "/img", User: "img"},
		},
		"user": {
			containerizer.Process{Env: []string{"A=1", "B=2", "A=3"}, WorkingDir: "/w", User: "u"},
			img,
			containerizer.Process{Args: []string{"c"}, Env: []string{"PATH=/img", "A=3", "B=2"}, WorkingDir: "/w", User: "u"},
		},
		"no image": {
			containerizer.Process{Args: []string{"c"}, Env: []string{"X="}, Terminal: true},
			nil,
			containerizer.Process{Args: []string{"c"}, Env: []string{defaultPath, "X=", "TERM=xterm"}, WorkingDir: "/", Terminal: true},
		},
		"own terminal type": {
			containerizer.Process{Args: []string{"c"}, Env: []string{"PATH=", "TERM=vt100"}, Terminal: true},
			nil,
			containerizer.Process{Args: []string{"c"}, Env: []string{"PATH=", "TERM=vt100"}, WorkingDir: "/", Terminal: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := effectiveProcess(c.p, c.img)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := effectiveProcess(containerizer.Process{}, &v1.ImageConfig{Cmd: []string{"c"}, WorkingDir: "rel"}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("relative working directory of an image: %v", err)
	}
}

func TestExecProcess(t *testing.T) {
	umask, adj := uint32(0o27), -5
	container := containerizer.Process{
		Entrypoint: []string{"server"}, Env: []string{"PATH=/x", "A=1"}, WorkingDir: "/srv", User: "www",
		AdditionalGroups: []string{"7"}, Umask: &umask, OOMScoreAdj: &adj,
	}
	got, err := execProcess(containerizer.Process{Args: []string{"sh"}, Env: []string{"A=2"}, Terminal: true}, container)
	if err != nil {
		t.Fatal(err)
	}
	want := containerizer.Process{
		Args: []string{"sh"}, Env: []string{"PATH=/x", "A=2", "TERM=xterm"}, WorkingDir: "/srv", User: "www",
		AdditionalGroups: []string{"7"}, Umask: &umask, OOMScoreAdj: &adj, Terminal: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	other, err := execProcess(containerizer.Process{Args: []string{"sh"}, User: "root"}, container)
	if err != nil || other.AdditionalGroups != nil {
		t.Errorf("another user has the groups %q, %v; want none of the container's", other.AdditionalGroups, err)
	}
	if _, err := execProcess(containerizer.Process{}, container); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("no command: %v", err)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]int{
		"SIGTERM": 15, "term": 15, "9": 9, "KILL": 9, "SIGUSR1": 10, "SIGRTMIN": 34, "RTMIN+3": 37,
		"sigrtmax": 64, "RTMAX-14": 50, "64": 64,
		"": 0, "0": 0, "65": 0, "-1": 0, "SIGNOPE": 0, "RTMIN3": 0, "RTMIN+31": 0, "RTMAX+1": 0, "RTMIN-1": 0, "SIGSIGTERM": 0,
	} {
		got, err := parseSignal(in)
		if got != want || (want == 0) != errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("parseSignal(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func FuzzMergeEnv(f *testing.F) {
	f.Add("A=1", "B=2", "A=3")
	f.Add("", "=", "x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		out := mergeEnv([]string{a, b}, []string{c})
		seen := map[string]bool{}
		for _, kv := range out {
			v, ok := lookupEnv([]string{kv}, keyOf(kv))
			if !ok || keyOf(kv) == "" || seen[keyOf(kv)] {
				t.Fatalf("mergeEnv = %q", out)
			}
			seen[keyOf(kv)] = true
			if want, _ := lookupEnv([]string{a, b, c}, keyOf(kv)); v != want {
				t.Fatalf("%q has %q, want the last value %q", keyOf(kv), v, want)
			}
		}
	})
}

func keyOf(kv string) string {
	for i := range kv {
		if kv[i] == '=' {
			return kv[:i]
		}
	}
	return ""
}
