package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-dev/berth/containerizer"
)

func openLedger(t *testing.T, path string) *ledger {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	l, err := loadLedger(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	a := ownedLedger{openLedger(t, path), "a"}
	b := ownedLedger{a.ledger, "b"}
	for _, err := range []error{
		a.Acquire("dir", "/x"), a.Acquire("dir", "/y"), a.Acquire("dir", "/x"), b.Acquire("dir", "/x"),
		a.Release("dir", "/x"), a.Release("dir", "never"), a.Acquire("ip", ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"a\tb", "a\nb", "\x00"} {
		if err := a.Acquire("dir", bad); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("Acquire(%q) = %v", bad, err)
		}
	}
	if err := a.Acquire("", "x"); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("Acquire of no kind = %v", err)
	}
	reread := openLedger(t, path)
	for _, l := range []containerizer.Ledger{a, ownedLedger{reread, "a"}, readerLedger{path, "a"}} {
		if diff := cmp.Diff([]string{"/y"}, l.Held("dir")); diff != "" {
			t.Errorf("%T.Held (-want +got):\n%s", l, diff)
		}
		if diff := cmp.Diff([]string{""}, l.Held("ip")); diff != "" {
			t.Errorf("%T.Held (-want +got):\n%s", l, diff)
		}
	}
	if err := (readerLedger{path, "a"}).Acquire("dir", "z"); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("Acquire by a reader = %v", err)
	}
	for _, err := range []error{a.Release("dir", "/y"), a.Release("ip", ""), b.Release("dir", "/x")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 0 {
		t.Errorf("a ledger that holds nothing has %d bytes, %v", st.Size(), err)
	}
}

func TestLedgerTorn(t *testing.T) {
	whole := "A\ta\tdir\t/x\n"
	for name, tail := range map[string]string{"half a line": "A\ta\tdir\t/lo", "one byte": "A", "release": "R\ta\tdir\t/x"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			if err := os.WriteFile(path, []byte(whole+tail), 0o600); err != nil {
				t.Fatal(err)
			}
			l := ownedLedger{openLedger(t, path), "a"}
			if err := l.Acquire("dir", "/next"); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(whole+"A\ta\tdir\t/next\n", string(b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLedgerDamaged(t *testing.T) {
	held, whole := parseLedger([]byte("A\ta\tk\tn\n\x00\x00\nA\tonly\nX\ta\tk\tm\nA\t\tk\tm\nA\ta\tk\tm\textra\nR\ta\tk\tother\nA\ta\tk\tlast\n"))
	if diff := cmp.Diff([]string{"n", "last"}, held.names("a", "k")); diff != "" || whole == 0 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte("A\ta\tk\tn\nR\ta\tk\tn\nA\ta\tk"))
	f.Add([]byte("\n\n\t\t\t\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		held, whole := parseLedger(b)
		if whole > len(b) || whole > 0 && b[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are whole lines", whole, len(b))
		}
		var again strings.Builder // what is held, written anew, is the same
		for _, e := range held {
			again.WriteString(e.line('A'))
		}
		rewritten, _ := parseLedger([]byte(again.String()))
		if diff := cmp.Diff(held, rewritten, cmp.AllowUnexported(ledgerEntry{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-read +rewritten):\n%s", diff)
		}
	})
}
