package containerizer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

func TestParseContainerID(t *testing.T) {
	long := strings.Repeat("x", 242)
	for name, c := range map[string]struct {
		id   string
		want string // in the error; "" for none
	}{
		"root":                {id: "web"},
		"one byte":            {id: "0"},
		"child":               {id: "pod.web.exec-1"},
		"punctuation":         {id: "a_b-c:d@e,f~!#$%^&*()[]{}<>?|'\"`;=+"},
		"longest element":     {id: long},
		"deepest":             {id: strings.Repeat("a.", 31) + "a"},
		"empty":               {id: "", want: "an element is empty"},
		"only a dot":          {id: ".", want: "an element is empty"},
		"parent directory":    {id: "..", want: "an element is empty"},
		"no root":             {id: ".a", want: "an element is empty"},
		"no leaf":             {id: "a.", want: "an element is empty"},
		"hole":                {id: "a..b", want: "an element is empty"},
		"too long":            {id: long + "x", want: "an element has 243 bytes, at most 242"},
		"too long child":      {id: "a." + long + "x", want: "an element has 243 bytes, at most 242"},
		"too deep":            {id: strings.Repeat("a.", 32) + "a", want: "nested 33 deep, at most 32"},
		"slash":               {id: "a/b", want: `holds '/'`},
		"path":                {id: "pod.../../etc", want: "an element is empty"},
		"backslash":           {id: `a\b`, want: `holds '\\'`},
		"space":               {id: "a b", want: `holds ' '`},
		"newline":             {id: "a\nb", want: `holds '\n'`},
		"NUL":                 {id: "a\x00b", want: `holds '\x00'`},
		"delete":              {id: "a\x7fb", want: `holds '\x7f'`},
		"letter beyond ASCII": {id: "pod.é", want: `element "é" holds 'é'`},
		"broken UTF-8":        {id: "a\xff", want: `element "a\xff" holds`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := containerizer.ParseContainerID(c.id)
			if c.want == "" {
				if err != nil || got.String() != c.id {
					t.Fatalf("got %q, %v, want the same id", got, err)
				}
				return
			}
			if got != "" || !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %q, %v, want an invalid id: %q", got, err, c.want)
			}
		})
	}
}

func TestContainerIDInTree(t *testing.T) {
	for _, c := range []struct {
		id, parent, root containerizer.ContainerID
		base             string
		isRoot           bool
	}{
		{id: "", isRoot: true},
		{id: "pod", root: "pod", base: "pod", isRoot: true},
		{id: "pod.web", parent: "pod", root: "pod", base: "web"},
		{id: "pod.web.exec", parent: "pod.web", root: "pod", base: "exec"},
	} {
		t.Run("id "+c.id.String(), func(t *testing.T) {
			if got := c.id.Parent(); got != c.parent {
				t.Errorf("parent: got %q, want %q", got, c.parent)
			}
			if got := c.id.Root(); got != c.root {
				t.Errorf("root: got %q, want %q", got, c.root)
			}
			if got := c.id.Base(); got != c.base {
				t.Errorf("base: got %q, want %q", got, c.base)
			}
			if got := c.id.IsRoot(); got != c.isRoot {
				t.Errorf("is a root: got %v, want %v", got, c.isRoot)
			}
			if c.parent != "" && c.parent.Child(c.base) != c.id {
				t.Errorf("child of the parent: got %q, want %q", c.parent.Child(c.base), c.id)
			}
		})
	}
}

func TestHasAncestor(t *testing.T) {
	for _, c := range []struct {
		id, ancestor containerizer.ContainerID
		want         bool
	}{
		{"a.b", "a", true},
		{"a.b.c", "a", true},
		{"a.b.c", "a.b", true},
		{"a", "a", false},
		{"a.b", "a.b", false},
		{"a", "a.b", false},
		{"ab", "a", false},
		{"ab.c", "a", false},
		{"a.bc", "a.b", false},
		{"a.b", "b", false},
		{"a", "", false},
		{"", "", false},
		{"", "a", false},
	} {
		if got := c.id.HasAncestor(c.ancestor); got != c.want {
			t.Errorf("%q has ancestor %q: got %v, want %v", c.id, c.ancestor, got, c.want)
		}
	}
}

func TestShort(t *testing.T) {
	for id, want := range map[containerizer.ContainerID]string{
		"":                       "",
		"web":                    "web",
		"0123456789ab":           "0123456789ab",
		"0123456789abc":          "0123456789ab",
		"0123456789abcdef.web":   "0123456789abcdef.web",
		"pod.0123456789abcdef00": "pod.0123456789abcdef00",
	} {
		if got := id.Short(); got != want {
			t.Errorf("short form of %q: got %q, want %q", id, got, want)
		}
	}
}

func TestNewContainerID(t *testing.T) {
	seen := map[containerizer.ContainerID]bool{}
	for range 100 {
		id := containerizer.NewContainerID()
		if len(id) != 64 || strings.Trim(id.String(), "0123456789abcdef") != "" || !id.IsRoot() {
			t.Fatalf("got %q, want 64 hexadecimal digits", id)
		}
		if _, err := containerizer.ParseContainerID(id.String()); err != nil {
			t.Fatal(err)
		}
		if seen[id] {
			t.Fatalf("got %q twice", id)
		}
		seen[id] = true
	}
}

// Whatever is accepted is a safe name of a file, and its elements put it together
// again.
func FuzzParseContainerID(f *testing.F) {
	for _, s := range []string{"", "a", "a.b", "..", "a/b", "a\x00", "é", "\xff", strings.Repeat("a.", 40), strings.Repeat("a", 243)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := containerizer.ParseContainerID(s)
		if err != nil {
			if id != "" || !errors.Is(err, containerizer.ErrInvalid) {
				t.Fatalf("%q: got %q, %v, want an invalid id", s, id, err)
			}
			return
		}
		if id.String() != s || s == "" || strings.ContainsAny(s, "/\\\x00\n ") {
			t.Fatalf("%q was accepted as %q", s, id)
		}
		elements := 0
		for at := id; at != ""; at = at.Parent() {
			elements++
			if b := at.Base(); b == "" || b == ".." || len(b) > 255 {
				t.Fatalf("%q: the last element of %q is %q", s, at, b)
			}
			if at.Root() != id.Root() || at.IsRoot() != (at == at.Root()) {
				t.Fatalf("%q: the root of %q is %q", s, at, at.Root())
			}
			if p := at.Parent(); p != "" && (p.Child(at.Base()) != at || !at.HasAncestor(p) || p.HasAncestor(at)) {
				t.Fatalf("%q: %q is not the parent of %q", s, p, at)
			}
		}
		if elements > 32 {
			t.Fatalf("%q is nested %d deep", s, elements)
		}
	})
}
