package specflag

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestParseLines(t *testing.T) {
	got, err := parseLines([]byte("A=1\r\n#x\n \tB=a=b \nC\nD =\n"))
	if err == nil {
		t.Fatalf("a name that ends in a blank was taken: %q", got)
	}
	got, err = parseLines([]byte("A=1\r\n#x\n \tB=a=b \nC \n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A=1", "B=a=b ", "C"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func FuzzParseLines(f *testing.F) {
	for _, s := range []string{"A=1\nB\n", "\xef\xbb\xbfA=1", "#\n\n", "a b=c", "=x", "A=\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parseLines(data)
		if err != nil {
			return
		}
		for _, l := range lines {
			name, _, _ := strings.Cut(l, "=")
			if name == "" || strings.ContainsFunc(name, unicode.IsSpace) || strings.ContainsAny(l, "\x00\n") {
				t.Errorf("line %q of %q", l, data)
			}
		}
	})
}
