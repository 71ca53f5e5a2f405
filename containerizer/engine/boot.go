package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const (
	bootFile = "boot"
	gateFile = "gate"
)

// ready makes the state folder this boot's. It is cheap when that was done before.
func (e *Engine) ready(ctx context.Context) error {
	e.readyMu.Lock()
	defer e.readyMu.Unlock()
	if e.isReady {
		return nil
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read the id of this boot: %w", err)
	}
	e.bootID = strings.TrimSpace(string(b))
	if marker, err := os.ReadFile(filepath.Join(e.state, bootFile)); err != nil || string(marker) != e.bootID {
		if err := e.firstUse(ctx); err != nil {
			return fmt.Errorf("set up the state folder %q: %w", e.state, err)
		}
	}
	e.isReady = true
	return nil
}

// firstUse sets up the folders after a boot, and brings containers that survive
// one into them as exited.
func (e *Engine) firstUse(ctx context.Context) error {
	for _, d := range []string{
		filepath.Join(e.state, containersFolder), filepath.Join(e.state, namesFolder),
		filepath.Join(e.state, journalFolder), filepath.Join(e.state, owedFolder), filepath.Join(e.root, recordsFolder),
	} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return outOfSpace(err)
		}
	}
	gate, err := e.enterGate(ctx, exclusive)
	if err != nil {
		return err
	}
	defer unlockClose(gate)
	marker := filepath.Join(e.state, bootFile)
	if b, err := os.ReadFile(marker); err == nil && string(b) == e.bootID {
		return nil // another process was first
	}
	if err := e.importRecords(); err != nil {
		return err
	}
	strayed, err := e.strayedSandboxes()
	if err != nil {
		return err
	}
	for _, id := range strayed {
		if err := e.removeSandbox(id); err != nil {
			e.log.Warn("a sandbox of before the reboot is left", fieldID(id), fieldError(err))
		}
	}
	return writeAside(marker, []byte(e.bootID))
}

// enterGate opens the gate: shared to place a container, exclusive to look at all
// of them while none is added.
func (e *Engine) enterGate(ctx context.Context, kind lockKind) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(e.state, gateFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, outOfSpace(err)
	}
	if err := waitLock(ctx, f, kind, nil); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("wait for berth's recovery to let containers in: %w", err)
	}
	return f, nil
}

// importRecords places the containers of ROOT/records that the state folder does
// not have, as exited ones. A record that cannot be read is reported by Recover,
// not here: it must not keep everybody from working.
//
// Preconditions: the caller has the gate exclusively.
func (e *Engine) importRecords() error {
	ids, err := tree(filepath.Join(e.root, recordsFolder), "")
	if err != nil {
		return err
	}
	for _, id := range ids { // parents first
		if _, err := os.Lstat(e.dir(id)); err == nil {
			continue
		}
		var p persistent
		if err := readJSON(filepath.Join(e.recordDir(id), recordFile), &p); err != nil || p.Request.ID != id {
			continue
		}
		if err := e.importRecord(id, &p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // a child without its parent is left to Recover
		}
	}
	return nil
}

func (e *Engine) importRecord(id containerizer.ContainerID, p *persistent) error {
	l := &loaded{id: id, dir: e.dir(id), req: p.Request, st: p.Status}
	if l.decode() != nil {
		return nil // Recover reports records that cannot be read
	}
	if l.st.State != containerizer.StateExited {
		l.st.State = containerizer.StateExited
		l.st.PID, l.st.MonitorPID = 0, 0
		l.st.Termination = lostTermination("the node was restarted while it ran")
	}
	l.st.Released, l.st.Owed, l.st.Boot = false, nil, e.bootID
	held, err := e.place(l, e.launchEntries(l.spec))
	if err != nil {
		return err
	}
	defer held.unlock()
	for _, name := range l.names() {
		if err := e.claimName(held.ledger, name, id); err != nil {
			e.log.Warn("a name is taken", fieldID(id), fieldError(err))
		}
	}
	return nil
}

// lostTermination is that of a container whose exit status nobody saw.
func lostTermination(why string) *containerizer.Termination {
	return &containerizer.Termination{
		ExitCode: 255, WaitStatus: 255 << 8, Reason: containerizer.ReasonUnknown,
		Message: why, FinishedAt: time.Now().UTC(),
	}
}
