package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// What a container owes is kept twice: the words in its status, and a file in
// STATE/owed, whose time is that of the last try, so that who wants to retry need
// not look at every container.

const (
	// debtPause is the least time between two tries by Reap, and the first pause of
	// Run, which doubles up to debtPauseMax.
	debtPause    = 2 * time.Second
	debtPauseMax = 5 * time.Minute
)

func (e *Engine) debtPath(id containerizer.ContainerID) string {
	return filepath.Join(e.state, owedFolder, string(id))
}

// noteDebt says that id is to be tried again. The name of a deep child may be too
// long for a file: its root's debt covers it.
func (e *Engine) noteDebt(id containerizer.ContainerID) error {
	if len(id) > 255 {
		id = id.Root()
	}
	f, err := os.OpenFile(e.debtPath(id), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("note that container %q owes: %w", id, outOfSpace(err))
	}
	return errors.Join(f.Close(), os.Chtimes(f.Name(), time.Time{}, time.Now()))
}

func (e *Engine) clearDebt(id containerizer.ContainerID) {
	_ = os.Remove(e.debtPath(id)) // payDebts removes it otherwise
}

// payDebts retries what is owed and was not tried for a while. It returns how
// many containers owe still.
func (e *Engine) payDebts(ctx context.Context, pause time.Duration) (left int) {
	found, err := os.ReadDir(filepath.Join(e.state, owedFolder))
	if err != nil {
		return 0
	}
	for _, f := range found {
		info, err := f.Info()
		id, perr := containerizer.ParseContainerID(f.Name())
		if err != nil || perr != nil {
			continue
		}
		if time.Since(info.ModTime()) < pause || ctx.Err() != nil {
			left++
			continue
		}
		if err := e.payDebt(ctx, id); err != nil {
			e.log.Warn("a container still holds what it should not", fieldID(id), fieldError(err))
			left++
		}
	}
	return left
}

func (e *Engine) payDebt(ctx context.Context, id containerizer.ContainerID) error {
	l, err := e.load(id)
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		e.clearDebt(id)
		return nil
	case err == nil && len(l.st.Owed) == 0:
		e.clearDebt(id)
		return nil
	}
	if err := os.Chtimes(e.debtPath(id), time.Time{}, time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, _, err = e.do(ctx, id, opRecover, "", e.recoverOp)
	return err
}

// Run retries what containers owe, after pauses that double while nothing
// succeeds, until ctx ends. A process that lives long runs it; in others the
// next Reap, Destroy or Recover does that.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	pause, before := debtPause, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.quit:
			return nil
		case <-time.After(pause):
		}
		left := e.payDebts(ctx, pause/2)
		if left == 0 || left < before {
			pause = debtPause
		} else {
			pause = min(2*pause, debtPauseMax)
		}
		before = left
	}
}
