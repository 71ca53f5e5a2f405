package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

func TestParseResolver(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"plain":           {"nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		"comments":        {"# a\nnameserver 192.0.2.1 # b\n; c\noptions ndots:2;x\n", "nameserver 192.0.2.1\noptions ndots:2\n"},
		"last search":     {"search a\ndomain b\nsearch c d\n", "search c d\n"},
		"several options": {"options a b\noptions c", "options a b c\n"},
		"nonsense":        {"nameserver\n\x00\nwhat ever\n\n", ""},
		"tabs":            {"\tnameserver\t192.0.2.1\r\n", "nameserver 192.0.2.1\n"},
	} {
		r := parseResolver(c.text)
		if got := r.String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzParseResolver(f *testing.F) {
	f.Add("nameserver 1.1.1.1\nsearch a b\noptions ndots:1 # x\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseResolver(text)
		once := r.String()
		again := parseResolver(once)
		if diff := cmp.Diff(once, again.String()); diff != "" {
			t.Errorf("what is written is read otherwise (-first +second):\n%s", diff)
		}
	})
}

func TestSplitHost(t *testing.T) {
	for _, c := range []struct{ in, name, addr string }{
		{"db:192.0.2.1", "db", "192.0.2.1"},
		{"db=192.0.2.1", "db", "192.0.2.1"},
		{"db:fd00::1", "db", "fd00::1"},
		{"db:[fd00::1]", "db", "fd00::1"},
		{"db=[fd00::1]", "db", "fd00::1"},
		{"h:host-gateway", "h", hostGateway},
	} {
		if name, addr, err := splitHost(c.in); name != c.name || addr != c.addr || err != nil {
			t.Errorf("splitHost(%q) = %q, %q, %v", c.in, name, addr, err)
		}
	}
	for _, in := range []string{"", "db", ":1.2.3.4", "db:", "db:x", "-db:1.2.3.4", "a b:1.2.3.4", "db:1.2.3.4\n5.6.7.8 bank"} {
		if _, _, err := splitHost(in); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("splitHost(%q) = %v, want ErrInvalid", in, err)
		}
	}
}

func FuzzSplitHost(f *testing.F) {
	f.Add("db:192.0.2.1")
	f.Add("h=[::1]")
	f.Fuzz(func(t *testing.T, s string) {
		name, addr, err := splitHost(s)
		if err != nil {
			return
		}
		if _, parseErr := netip.ParseAddr(addr); parseErr != nil && addr != hostGateway {
			t.Errorf("splitHost(%q) gives address %q", s, addr)
		}
		if strings.ContainsAny(name+addr, " \t\n\r#") {
			t.Errorf("splitHost(%q) = %q, %q would break the file", s, name, addr)
		}
	})
}

const devText = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    3    4    5     6          7         8        9       10   11   12   13    14      15         16
  eth0:     101     102  103  104  105   106        107       108      109      110  111  112  113   114     115        116
`

func TestParseDev(t *testing.T) {
	got, err := parseDev([]byte(devText))
	want := []containerizer.NetworkUsage{{
		Interface: "eth0", RxBytes: 101, RxPackets: 102, RxErrors: 103, RxDropped: 104,
		TxBytes: 109, TxPackets: 110, TxErrors: 111, TxDropped: 112,
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("parseDev() (-want +got):\n%s(%v)", diff, err)
	}
	for _, bad := range []string{"a\nb\neth0: 1 2 3\n", "a\nb\neth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x\n"} {
		if _, err := parseDev([]byte(bad)); !errors.Is(err, containerizer.ErrDataCorrupt) {
			t.Errorf("parseDev(%q) = %v, want ErrDataCorrupt", bad, err)
		}
	}
}

func FuzzParseDev(f *testing.F) {
	f.Add([]byte(devText))
	f.Fuzz(func(t *testing.T, b []byte) {
		usage, err := parseDev(b)
		for _, u := range usage {
			if err == nil && (u.Interface == "lo" || strings.TrimSpace(u.Interface) != u.Interface) {
				t.Errorf("interface %q", u.Interface)
			}
		}
	})
}

func TestCNIID(t *testing.T) {
	for id, same := range map[containerizer.ContainerID]bool{
		"abc": true, "a.b-c_d": true, "_a": false, "a%": false, containerizer.ContainerID(strings.Repeat("a", 201)): false,
	} {
		if got := cniID(id); (got == string(id)) != same || !cniIDPattern(got) {
			t.Errorf("cniID(%q) = %q", id, got)
		}
	}
}
