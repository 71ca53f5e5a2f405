package network_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// fileLedger is a ledger that outlives its process.
type fileLedger struct{ path string }

func (l fileLedger) write(sign, kind, name string) error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\t%s\t%s\n", sign, kind, name)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (l fileLedger) Acquire(kind, name string) error { return l.write("+", kind, name) }
func (l fileLedger) Release(kind, name string) error { return l.write("-", kind, name) }

func (l fileLedger) Held(kind string) []string {
	b, _ := os.ReadFile(l.path)
	var held []string
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 || f[1] != kind {
			continue
		}
		held = slices.DeleteFunc(held, func(s string) bool { return s == f[2] })
		if f[0] == "+" {
			held = append(held, f[2])
		}
	}
	return held
}

// victim is what the process that gets killed is told.
type victim struct {
	Opts   network.Options
	ID     containerizer.ContainerID
	Ledger string
	PID    int
	Clean  bool // clean up after attaching, so that the kill hits Cleanup too
}

const victimEnv = "BERTH_NETTEST_VICTIM"

// beVictim attaches a container, as a launching berth does.
func beVictim() int {
	var v victim
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &v); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := testContext()
	defer cancel()
	iso := network.New(log.Nop(), v.Opts)
	c := &containerizer.Container{ID: v.ID, Ledger: fileLedger{v.Ledger}, Spec: withImage(containerizer.Network{Ports: []containerizer.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}}})}
	fmt.Println("ready")
	_, err := iso.Prepare(ctx, c)
	if err == nil {
		err = iso.Isolate(ctx, c, v.PID)
	}
	if err == nil && v.Clean {
		err = iso.Cleanup(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilled kills a process at many points of attaching and cleaning up; whoever
// comes next releases everything, by the ledger or by Recover.
func TestKilled(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	warm := n.run(t, withImage(containerizer.Network{})) // the bridge exists, so that kills hit the rest as well
	_ = warm
	const rounds = 40
	for round := range rounds {
		ns := nettest.New(t)
		v := victim{Opts: n.opts, ID: containerizer.ContainerID(fmt.Sprintf("berthtest-victim%d", round)), Ledger: filepath.Join(t.TempDir(), "ledger"), PID: ns.PID(), Clean: round%2 == 1}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), victimEnv+"="+string(b))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("victim did not begin: %v\n%s", err, stderr.String())
		}
		killer := time.AfterFunc(time.Duration(round)*250*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed, or done already
		killer.Stop()
		if stderr.Len() > 0 {
			t.Errorf("round %d: victim says: %s", round, stderr.String())
		}
		ns.End()
		c := isolatortest.NewContainer(t, nil).Damaged()
		c.ID, c.Ledger = v.ID, fileLedger{v.Ledger}
		if round%3 == 0 {
			_, err = n.isolator(t).Recover(t.Context(), []*containerizer.Container{warm.Container})
		} else {
			err = n.isolator(t).Cleanup(t.Context(), c)
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if left := n.leftovers(t, v.ID); len(left) > 0 {
			t.Fatalf("round %d: left %q", round, left)
		}
		if cables, ports := wires(t); len(cables) != 1 || len(ports) > 0 {
			t.Fatalf("round %d: left cables %v, ports %v", round, cables, ports)
		}
	}
}
