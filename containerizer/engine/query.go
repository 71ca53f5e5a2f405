package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// List implements [containerizer.Query].
func (e *Engine) List(ctx context.Context, f containerizer.Filter) ([]containerizer.Status, error) {
	if err := e.readyFor(ctx, f); err != nil {
		return nil, err
	}
	if e.opts.Resident {
		known, err := e.known(f)
		all := make([]containerizer.Status, len(known))
		for i, s := range known {
			all[i] = *s
		}
		return all, err
	}
	if f.Root != "" {
		if _, err := os.Stat(e.dir(f.Root)); err != nil {
			return nil, nil //nolint:nilerr // no such tree
		}
	}
	ids, err := tree(filepath.Join(e.state, containersFolder), f.Root)
	if err != nil {
		return nil, err
	}
	all := make([]containerizer.Status, 0, len(ids))
	for _, id := range ids {
		s, err := e.status(id)
		if errors.Is(err, containerizer.ErrNotFound) {
			continue // gone since
		}
		if err != nil {
			s = damagedStatus(id, err)
		}
		if matches(f, s) {
			all = append(all, *s)
		}
	}
	slices.SortStableFunc(all, func(a, b containerizer.Status) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(string(a.ID), string(b.ID)))
	})
	return all, nil
}

// ListShared is List for who changes nothing of what it gets, and keeps something by it:
// a resident engine returns the same pointer as long as nothing has changed.
func (e *Engine) ListShared(ctx context.Context, f containerizer.Filter) ([]*containerizer.Status, error) {
	if e.opts.Resident {
		if err := e.readyFor(ctx, f); err != nil {
			return nil, err
		}
		return e.known(f)
	}
	all, err := e.List(ctx, f)
	shared := make([]*containerizer.Status, len(all))
	for i := range all {
		shared[i] = &all[i]
	}
	return shared, err
}

// readyFor is ready, for a list by f.
func (e *Engine) readyFor(ctx context.Context, f containerizer.Filter) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	if f.Root == "" {
		return nil
	}
	_, err := containerizer.ParseContainerID(string(f.Root))
	return err
}

// known is List from the snapshot.
func (e *Engine) known(f containerizer.Filter) ([]*containerizer.Status, error) {
	known, err := e.snapshot.list(e)
	if err != nil {
		return nil, err
	}
	var all []*containerizer.Status
	if f.Root == "" { // else they are few
		all = make([]*containerizer.Status, 0, len(known))
	}
	for _, s := range known {
		if f.Root != "" && s.ID != f.Root && !s.ID.HasAncestor(f.Root) {
			continue
		}
		if matches(f, s) {
			all = append(all, s)
		}
	}
	return all, nil
}

// damagedStatus shows a container whose record cannot be read.
func damagedStatus(id containerizer.ContainerID, err error) *containerizer.Status {
	return &containerizer.Status{
		ID: id, Spec: &containerizer.Spec{}, State: containerizer.StatePreparing,
		Interrupted: true, Owed: []string{err.Error()},
	}
}

func matches(f containerizer.Filter, s *containerizer.Status) bool {
	for k, want := range f.Labels {
		if got, has := s.Spec.Labels[k]; !has || (want != "" && got != want) {
			return false
		}
	}
	return len(f.States) == 0 || slices.Contains(f.States, s.State)
}

// Status implements [containerizer.Query].
func (e *Engine) Status(ctx context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	s, err := e.status(id)
	if errors.Is(err, containerizer.ErrDataCorrupt) {
		return damagedStatus(id, err), nil
	}
	return s, err
}

func (e *Engine) status(id containerizer.ContainerID) (*containerizer.Status, error) {
	l, err := e.load(id)
	if err != nil {
		return nil, err
	}
	return e.view(l), nil
}

// view is l as it stands: the record, corrected by what the launcher's files and
// the ledger say. It waits for nobody.
func (e *Engine) view(l *loaded) *containerizer.Status {
	s := &containerizer.Status{
		ID: l.id, Spec: l.spec, State: l.st.State,
		PID: l.st.PID, MonitorPID: l.st.MonitorPID,
		CreatedAt: l.req.CreatedAt, StartedAt: l.st.StartedAt, Termination: l.st.Termination,
		ImageManifest: l.st.ImageManifest, ImageReference: l.st.ImageReference,
		Rootfs: l.st.Rootfs, LogPath: l.st.LogPath, Networks: l.st.Networks, Ports: l.st.Ports,
		RestartCount: l.st.RestartCount, Owed: l.st.Owed,
	}
	if s.State.Alive() {
		if t := e.ended(l); t != nil {
			s.State, s.Termination, s.PID, s.MonitorPID = containerizer.StateExited, t, 0, 0
		}
	}
	s.Interrupted = e.interrupted(l)
	return s
}

// interrupted says whether l is in the middle of a change that nobody makes.
func (e *Engine) interrupted(l *loaded) bool {
	f, err := os.Open(filepath.Join(l.dir, ledgerFile))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && l.st.State != containerizer.StateDestroying
	}
	defer f.Close() //nolint:errcheck // only read
	if locked, err := isLocked(f); err != nil || locked {
		return false
	}
	switch {
	case l.st.State == containerizer.StatePreparing:
	case l.st.State == containerizer.StateDestroying && len(l.st.Owed) == 0:
	default:
		b, err := readAllAt(f)
		if err != nil {
			return false
		}
		holds, _ := parseLedger(b)
		if !holds.has(ownEntries, kindOp) {
			return false
		}
	}
	// The lock may have become free because the change is done: look again.
	now, err := e.load(l.id)
	return err == nil && now.st.State == l.st.State && stillThere(f) && !e.isHeld(l.dir)
}

// isHeld says whether any process works on the container in dir.
func (*Engine) isHeld(dir string) bool {
	f, err := os.Open(filepath.Join(dir, ledgerFile))
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	locked, err := isLocked(f)
	return err == nil && locked
}

// ResolveID implements [containerizer.Query].
func (e *Engine) ResolveID(ctx context.Context, nameOrID string) (containerizer.ContainerID, error) {
	if err := e.ready(ctx); err != nil {
		return "", err
	}
	id, perr := containerizer.ParseContainerID(nameOrID)
	if perr == nil {
		if _, err := os.Stat(e.dir(id)); err == nil {
			return id, nil
		}
	}
	if validateName(nameOrID) == nil && nameOrID != "" {
		if id := e.lookupName(nameOrID); id != "" {
			return id, nil
		}
	}
	if perr == nil && id.IsRoot() {
		return e.resolvePrefix(nameOrID)
	}
	return "", fmt.Errorf("container %q: %w", nameOrID, containerizer.ErrNotFound)
}

func (e *Engine) resolvePrefix(prefix string) (containerizer.ContainerID, error) {
	ids, err := childIDs(filepath.Join(e.state, containersFolder), "")
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id containerizer.ContainerID) bool { return !strings.HasPrefix(string(id), prefix) })
	switch len(ids) {
	case 0:
		return "", fmt.Errorf("container %q: %w", prefix, containerizer.ErrNotFound)
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("%q begins the ids of %d containers; give more of it: %w", prefix, len(ids), containerizer.ErrInvalid)
}

// Processes implements [containerizer.Query].
func (e *Engine) Processes(ctx context.Context, id containerizer.ContainerID) ([]int, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	l, err := e.alive(id)
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	if e.freezer == nil {
		if l.st.PID == 0 {
			return nil, nil
		}
		return []int{l.st.PID}, nil
	}
	pids, err := e.freezer.Processes(ctx, forIsolator(e.container(l), nil, e.freezerName()))
	if err != nil {
		return nil, fmt.Errorf("processes of container %q: %w", id, err)
	}
	return pids, nil
}
