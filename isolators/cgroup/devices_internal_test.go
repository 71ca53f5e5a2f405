package cgroup

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

func TestDeviceSet(t *testing.T) {
	all := deviceRule{true, 'a', anyNumber, anyNumber, accessAll}
	null := deviceRule{true, 'c', 1, 3, accessAll}
	deny := func(r deviceRule, a access) deviceRule {
		r.allow, r.access = false, a
		return r
	}
	for name, tt := range map[string]struct {
		rules []deviceRule
		want  string // the exceptions, and what holds for the others
		err   error
	}{
		"none":               {nil, "deny", nil},
		"one":                {[]deviceRule{null}, "deny c 1:3 rwm", nil},
		"merged":             {[]deviceRule{{true, 'c', 1, 3, accessRead}, {true, 'c', 1, 3, accessWrite}}, "deny c 1:3 rw", nil},
		"partly taken back":  {[]deviceRule{null, deny(null, accessWrite)}, "deny c 1:3 rm", nil},
		"all taken back":     {[]deviceRule{null, deny(null, accessAll)}, "deny", nil},
		"denied again":       {[]deviceRule{deny(null, accessAll)}, "deny", nil},
		"everything":         {[]deviceRule{null, all}, "allow", nil},
		"everything but":     {[]deviceRule{all, deny(null, accessWrite)}, "allow c 1:3 w", nil},
		"nothing":            {[]deviceRule{null, deny(all, accessAll)}, "deny", nil},
		"both kinds":         {[]deviceRule{{true, 'a', 7, anyNumber, accessRead}}, "deny b 7:* r c 7:* r", nil},
		"hole in a wildcard": {[]deviceRule{{true, 'c', 1, anyNumber, accessAll}, deny(null, accessWrite)}, "", containerizer.ErrUnsupported},
		"wildcard elsewhere": {[]deviceRule{{true, 'c', 2, anyNumber, accessAll}, deny(null, accessWrite)}, "deny c 2:* rwm", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newDeviceSet(tt.rules)
			if !errors.Is(err, tt.err) {
				t.Fatalf("newDeviceSet(%v) = %v, want %v", tt.rules, err, tt.err)
			}
			if err != nil {
				return
			}
			got := "deny"
			if s.allowAll {
				got = "allow"
			}
			for _, e := range s.exceptions {
				got += " " + e.String()
			}
			if got != tt.want {
				t.Errorf("newDeviceSet(%v) = %q, want %q", tt.rules, got, tt.want)
			}
		})
	}
}

// What we write is what we read, and what does not read is refused.
func FuzzParseDeviceList(f *testing.F) {
	f.Add("a *:* rwm")
	f.Add("c 1:3 rwm\nb *:* m\nc 136:* rw")
	f.Add("c 1 rwm")
	f.Fuzz(func(t *testing.T, content string) {
		s, err := parseDeviceList(content)
		if err != nil {
			if !errors.Is(err, containerizer.ErrDataCorrupt) {
				t.Errorf("parseDeviceList(%q) = %v, want ErrDataCorrupt", content, err)
			}
			return
		}
		var lines []string
		for _, e := range s.exceptions {
			lines = append(lines, e.String())
		}
		if s.allowAll {
			lines = append(lines, "a *:* rwm")
		}
		again, err := parseDeviceList(strings.Join(lines, "\n"))
		if err != nil {
			t.Fatalf("parseDeviceList(%q), written again: %v", content, err)
		}
		if diff := cmp.Diff(s, again, cmp.AllowUnexported(deviceSet{}, deviceRule{})); diff != "" {
			t.Errorf("parseDeviceList(%q), written again (-first +second):\n%s", content, diff)
		}
	})
}
