package s3

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The example of the S3 API Reference, "Signature Calculations for the Authorization
// Header", GET Object.
func TestSignAsDocumented(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://examplebucket.s3.amazonaws.com/test.txt", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=0-9")
	c := credentials{id: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	sign(r, c, "us-east-1", time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
	const want = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+want) {
		t.Errorf("got %s, want the signature %s", got, want)
	}
}

func TestEscape(t *testing.T) {
	if got, want := escape("a b+c/ü~-._(x)"), "a%20b%2Bc/%C3%BC~-._%28x%29"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseProfile(t *testing.T) {
	const text = "# c\n[default]\na = 1\ns3 =\n  a = nested\n[profile other]\na=2\n[other]\na=3\n; x\nb\n"
	for _, c := range []struct {
		profile, prefix string
		want            map[string]string
	}{
		{"default", "profile ", map[string]string{"a": "1", "s3": ""}},
		{"other", "profile ", map[string]string{"a": "2"}},
		{"other", "", map[string]string{"a": "3"}},
		{"none", "", map[string]string{}},
	} {
		if diff := cmp.Diff(c.want, parseProfile(text, c.profile, c.prefix)); diff != "" {
			t.Errorf("%q %q: %s", c.prefix, c.profile, diff)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add("[default]\na = 1\n")
	f.Add("[")
	f.Fuzz(func(t *testing.T, text string) {
		for k := range parseProfile(text, "default", "profile ") {
			if strings.ContainsAny(k, "\n=") {
				t.Errorf("a key is %q", k)
			}
		}
	})
}
