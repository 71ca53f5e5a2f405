package cli_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/containerizer"
)

func TestDaemonHosts(t *testing.T) {
	files := cli.TLS{CA: "/ca", Cert: "/cert", Key: "/key"}
	for _, c := range []struct {
		settings cli.Settings
		want     string
		problem  string
	}{
		{cli.Settings{Host: "none"}, "", ""},
		{cli.Settings{Host: "tcp://node7:7443", TLS: files}, "tcp://node7:7443", ""},
		{cli.Settings{Host: "tcp://127.0.0.1:7443"}, "tcp://127.0.0.1:7443", ""},
		{cli.Settings{Host: "tcp://[::1]:7443"}, "tcp://[::1]:7443", ""},
		{cli.Settings{Host: "tcp://node7:7443"}, "", "needs --tls-ca, --tls-cert and --tls-key"},
		{cli.Settings{Host: "tcp://127.0.0.1:7443", TLS: cli.TLS{CA: "/ca"}}, "", "go together"},
		{cli.Settings{Host: "tcp://node7", TLS: files}, "", "is not tcp://HOST:PORT"},
		{cli.Settings{Host: "tcp://node7:7443", TLS: files, Here: true}, "", "do it on"},
		{cli.Settings{Host: "http://node7"}, "", "is neither"},
		{cli.Settings{Host: "unix://relative"}, "", "is neither"},
		{cli.Settings{Host: "unix:///nonexistent/berth.sock"}, "", "no berthd listens at"},
	} {
		got, err := c.settings.Daemon()
		if got != c.want && c.problem == "" || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("Daemon with host %q and %+v = %q, %v; want %q, %q", c.settings.Host, c.settings.TLS, got, err, c.want, c.problem)
		}
		if c.settings.Here && !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("here: %v", err)
		}
	}
}
