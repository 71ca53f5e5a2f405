package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChallenges(t *testing.T) {
	type params = map[string]string
	for in, want := range map[string][]challenge{
		`Basic realm="x"`: {{"basic", params{"realm": "x"}}},
		`Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push"`: {
			{"bearer", params{"realm": "https://a/token", "service": "s", "scope": "repository:a/b:pull,push"}},
		},
		`bearer realm = "a" , SERVICE=b`:       {{"bearer", params{"realm": "a", "service": "b"}}},
		`Basic realm="a", Bearer realm="b"`:    {{"basic", params{"realm": "a"}}, {"bearer", params{"realm": "b"}}},
		`Negotiate, Basic realm="a"`:           {{"negotiate", params{}}, {"basic", params{"realm": "a"}}},
		`Negotiate abc/d+e==, Basic realm="a"`: {{"negotiate", params{}}, {"basic", params{"realm": "a"}}},
		`Basic`:                                {{"basic", params{}}},
		`Basic realm="a\"b\\c"`:                {{"basic", params{"realm": `a"b\c`}}},
		`Bearer realm="a",realm="b"`:           {{"bearer", params{"realm": "a"}}},
		`Bearer realm="a",,error="x"`:          {{"bearer", params{"realm": "a", "error": "x"}}},
		`Bearer realm="not closed`:             {{"bearer", params{}}},
		``:                                     nil,
		`"`:                                    nil,
		`,`:                                    nil,
		strings.Repeat("Basic,", 5000):         nil, // too long
	} {
		got := challenges([]string{in})
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(challenge{})); diff != "" {
			t.Errorf("%.60s: got (+), want (-):\n%s", in, diff)
		}
	}
	if n := len(challenges([]string{strings.Repeat("Basic,", 2000)})); n != maxChallenges {
		t.Errorf("%d challenges of a header with 2000", n)
	}
}

func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Basic realm="x"`, `Bearer realm="a",service=b, Negotiate abc==`, `a b=c d=e`, `a "`, `x y z`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all := challenges([]string{s})
		if len(all) > maxChallenges {
			t.Fatalf("%d challenges", len(all))
		}
		for _, c := range all {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || c.params == nil {
				t.Fatalf("%q gives %+v", s, c)
			}
		}
	})
}

func TestContentRange(t *testing.T) {
	type result struct{ first, last, total int64 }
	for in, want := range map[string]*result{
		"bytes 0-9/10": {0, 9, 10}, "bytes 5-9/*": {5, 9, -1}, "bytes 3-3/4": {3, 3, 4},
		"": nil, "bytes": nil, "bytes 0-9": nil, "bytes 9-0/10": nil, "bytes 0-10/10": nil, "bytes -1-9/10": nil, "bytes +1-9/10": nil,
		"bytes 0-9/": nil, "bytes */10": nil, "items 0-9/10": nil, "bytes 0-99999999999999999999/100000000000000000000": nil, "bytes 0-9/10\n": nil,
	} {
		first, last, total, err := contentRange(in)
		if want == nil {
			if err == nil {
				t.Errorf("%q is accepted", in)
			}
			continue
		}
		if got := (result{first, last, total}); err != nil || got != *want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes 9-0/10", "bytes -1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := contentRange(s)
		if err == nil && (first < 0 || last < first || total < -1 || total >= 0 && last >= total) {
			t.Fatalf("%q gives %d-%d/%d", s, first, last, total)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"5": 5 * time.Second, "999999": time.Hour, "-5": 0, "0": 0, "": 0, "soon": 0, "1.5": 0,
		"Mon, 02 Jan 2006 15:04:05 GMT": 0,
	} {
		if got := retryAfter(in); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
	in := time.Now().Add(time.Minute).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	if got := retryAfter(in); got < 50*time.Second || got > time.Minute {
		t.Errorf("%q is %v", in, got)
	}
	if got := retryAfter("Fri, 02 Jan 2370 15:04:05 GMT"); got != time.Hour {
		t.Errorf("a far date is %v", got)
	}
}

// TestPatience has pauses that grow, differ from each other, and end.
func TestPatience(t *testing.T) {
	c := New(Options{Backoff: time.Microsecond, Patience: 2 * time.Second})
	cause := &transient{error: someError{}}
	p := patience{client: c}
	for i := range c.o.Retries {
		if err := p.more(t.Context(), cause, 0); err != nil {
			t.Fatalf("repetition %d: %v", i, err)
		}
	}
	if err := p.more(t.Context(), cause, 0); err == nil {
		t.Error("there is no end")
	}
	p = patience{client: c}
	if err := p.more(t.Context(), cause, 3*time.Second); err == nil || !strings.Contains(err.Error(), "come back in 3s") {
		t.Errorf("to be waited for longer than there is patience: %v", err)
	}
	if p.waited != 0 {
		t.Errorf("it waited %v in vain", p.waited)
	}
	seen := map[time.Duration]bool{}
	for range 20 {
		p = patience{client: New(Options{Backoff: time.Millisecond})}
		if err := p.more(t.Context(), cause, 0); err != nil {
			t.Fatal(err)
		}
		if p.waited < time.Millisecond/2 || p.waited > time.Millisecond+1 {
			t.Errorf("a pause of %v", p.waited)
		}
		seen[p.waited] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d different pauses of 20", len(seen))
	}
}

type someError struct{}

func (someError) Error() string { return "some error" }
