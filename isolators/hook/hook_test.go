package hook_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/hook"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// write makes a folder of files, by name.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// one is a file with a hook at path, under conditions.
func one(path, when, stages string) string {
	return `{"version": "1.0.0", "hook": {"path": "` + path + `", "args": ["h", "x"], "env": ["A=B"], "timeout": 3}, "when": {` + when + `}, "stages": [` + stages + `]}`
}

func prepare(t *testing.T, spec *containerizer.Spec, dirs ...string) (*specs.Hooks, error) {
	t.Helper()
	info, err := hook.New(dirs).Prepare(context.Background(), isolatortest.NewContainer(t, spec).Container)
	if info == nil {
		return nil, err
	}
	return info.Hooks, err
}

func TestIsolator(t *testing.T) {
	bad := -1
	dir := write(t, map[string]string{"a.json": one("/a", `"always": true`, `"poststop"`)})
	isolatortest.Run(t, isolatortest.Config{
		New: func(*testing.T) containerizer.Isolator { return hook.New([]string{dir}) },
		Spec: func() *containerizer.Spec {
			return &containerizer.Spec{Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "/b"}}}}
		},
		Refused: map[string]func() *containerizer.Spec{
			"relative path": func() *containerizer.Spec {
				return &containerizer.Spec{Hooks: &specs.Hooks{Poststart: []specs.Hook{{Path: "b"}}}}
			},
			"timeout": func() *containerizer.Spec {
				return &containerizer.Spec{Hooks: &specs.Hooks{StartContainer: []specs.Hook{{Path: "/b", Timeout: &bad}}}}
			},
			"NUL": func() *containerizer.Spec {
				return &containerizer.Spec{Hooks: &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/b", Args: []string{"b", "\x00"}}}}}
			},
		},
	})
}

// TestConditions: which containers a file is for.
func TestConditions(t *testing.T) {
	spec := &containerizer.Spec{
		Annotations: map[string]string{"com.example.gpu": "yes", "other": "no"},
		Process:     containerizer.Process{Entrypoint: []string{"/usr/bin/server"}, Args: []string{"-v"}},
		Mounts:      []containerizer.Mount{{Type: containerizer.MountBind, Source: "/", Destination: "/host"}},
	}
	for when, want := range map[string]bool{
		`"always": true`:                                                     true,
		`"always": false`:                                                    false,
		`"hasBindMounts": true`:                                              true,
		`"hasBindMounts": false`:                                             false,
		`"commands": ["^/usr/bin/"]`:                                         true,
		`"commands": ["^/bin/", "server$"]`:                                  true,
		`"commands": ["-v"]`:                                                 false,
		`"annotations": {"^com\\.example\\.gpu$": "^y"}`:                     true,
		`"annotations": {".*": "^no$"}`:                                      true,
		`"annotations": {"^com\\.example\\.gpu$": "^no$"}`:                   false,
		`"annotations": {"gpu": "yes", "missing": ".*"}`:                     false,
		`"always": true, "commands": ["^/bin/"]`:                             false,
		`"hasBindMounts": true, "commands": ["^/usr"], "always": true`:       true,
		`"annotations": {"gpu": ".*"}, "commands": ["x"], "always": true`:    false,
		`"annotations": {"gpu": ".*"}, "commands": ["srv", "serv"]`:          true,
		`"annotations": {"gpu": ".*", "other": "n"}, "hasBindMounts": true`:  true,
		`"annotations": {"gpu": ".*", "other": "n"}, "hasBindMounts": false`: false,
	} {
		t.Run(when, func(t *testing.T) {
			got, err := prepare(t, spec, write(t, map[string]string{"a.json": one("/a", when, `"prestart"`)}))
			if err != nil || (got != nil) != want {
				t.Errorf("hooks %+v, %v, want %t", got, err, want)
			}
		})
	}
}

// TestFolders: files by name, later folders before earlier ones, stages in each.
func TestFolders(t *testing.T) {
	always := `"always": true`
	first := write(t, map[string]string{
		"b.json": one("/b", always, `"createRuntime", "poststop"`), "c.json": one("/c-old", always, `"createRuntime"`), "notes.txt": "not JSON",
	})
	second := write(t, map[string]string{"a.json": one("/a", always, `"createRuntime"`), "c.json": one("/c-new", always, `"startContainer"`)})
	spec := &containerizer.Spec{Hooks: &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/own"}}}}
	got, err := prepare(t, spec, first, "/nowhere", second)
	if err != nil {
		t.Fatal(err)
	}
	three := 3
	node := func(path string) specs.Hook {
		return specs.Hook{Path: path, Args: []string{"h", "x"}, Env: []string{"A=B"}, Timeout: &three}
	}
	want := &specs.Hooks{
		CreateRuntime:  []specs.Hook{{Path: "/own"}, node("/a"), node("/b")},
		StartContainer: []specs.Hook{node("/c-new")},
		Poststop:       []specs.Hook{node("/b")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	if len(spec.Hooks.CreateRuntime) != 1 {
		t.Error("the description was changed")
	}
	if got, err := prepare(t, &containerizer.Spec{Class: containerizer.ClassPodSandbox}, first); err != nil || got != nil {
		t.Errorf("a pod sandbox without a process has hooks %+v, %v", got, err)
	}
}

// TestBadFiles: what cannot be understood fails the launch, and the file is named.
func TestBadFiles(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"old version":       `{"version": "0.1.0", "hook": "/a"}`,
		"no version":        `{"hook": {"path": "/a"}, "when": {"always": true}, "stages": ["prestart"]}`,
		"relative path":     one("a", `"always": true`, `"prestart"`),
		"no stage":          one("/a", `"always": true`, ``),
		"unknown stage":     one("/a", `"always": true`, `"precreate"`),
		"unknown condition": one("/a", `"sometimes": true`, `"prestart"`),
		"no condition":      one("/a", ``, `"prestart"`),
		"bad expression":    one("/a", `"commands": ["("]`, `"prestart"`),
		"too long":          strings.Repeat(" ", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prepare(t, &containerizer.Spec{}, write(t, map[string]string{"bad.json": text}))
			if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), "bad.json") {
				t.Errorf("prepare: %v, want ErrInvalid with the file's name", err)
			}
		})
	}
}
