package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// TestLockIsBounded checks that a lock that is never given back is waited for no
// longer than the bound or the caller's context, and that the error says who has it.
func TestLockIsBounded(t *testing.T) {
	nettest.Need(t)
	err := bridge.Exclusive(t.Context(), func() error {
		synctest.Test(t, func(t *testing.T) {
			for name, c := range map[string]struct{ patience, want time.Duration }{
				"bound": {time.Hour, 20 * time.Second}, "context": {time.Second, time.Second},
			} {
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				err := bridge.Exclusive(ctx, func() error { t.Error("two have the lock"); return nil })
				cancel()
				holder := fmt.Sprintf("which process %d holds", os.Getpid())
				if took := time.Since(begin); !errors.Is(err, containerizer.ErrUnavailable) || !strings.Contains(err.Error(), holder) || took != c.want {
					t.Errorf("%s: Exclusive() = %v after %s, want ErrUnavailable and %q after %s", name, err, took, holder, c.want)
				}
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := bridge.Exclusive(t.Context(), func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("Exclusive() after the lock was given back = %v", err)
	}
}
