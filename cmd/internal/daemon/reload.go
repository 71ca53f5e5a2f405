package daemon

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/log"
)

// Reload implements the adapter's contract: it reads the configuration again. The
// level of the log and the certificates of tcp are in force at once; files that others
// own, such as hosts.toml, credentials and signature policies, are read whenever they
// are needed anyway.
func (d *Daemon) Reload(context.Context) (applied, restart []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloading()
	defer d.notify(daemon.SdNotifyReady)
	next, err := d.o.Reread()
	if err != nil {
		return nil, nil, fmt.Errorf("reload: %w", err)
	}
	level, err := zapcore.ParseLevel(cmp.Or(next.Daemon.LogLevel, "info"))
	if err != nil {
		return nil, nil, err
	}
	var byCertificates []string
	if d.remotes != nil && d.remotes.tls.Load() != nil && next.TCP.Address != "" && !next.TCP.Insecure {
		changed, err := d.remotes.load(&next.TCP)
		if err != nil {
			return nil, nil, fmt.Errorf("reload: %w", err)
		}
		if changed {
			applied = append(applied, "tcp certificates")
		}
		byCertificates = []string{"tcp.cert", "tcp.key", "tcp.client_ca", "tcp.client_names"}
	}
	for _, key := range differences("", reflect.ValueOf(d.cfg), reflect.ValueOf(*next)) {
		switch {
		case key == "daemon.log_level":
			d.o.SetLevel(level)
			applied = append(applied, key)
		case slices.Contains(byCertificates, key):
			applied = append(applied, key)
		default:
			restart = append(restart, key)
		}
	}
	d.cfg.Daemon.LogLevel = next.Daemon.LogLevel
	if byCertificates != nil {
		t := &d.cfg.TCP
		t.Cert, t.Key, t.ClientCA, t.ClientNames = next.TCP.Cert, next.TCP.Key, next.TCP.ClientCA, next.TCP.ClientNames
	}
	d.o.Log.Info("the configuration was read again", log.Strings("applied", applied), log.Strings("restart", restart))
	return applied, restart, nil
}

// heedHangups reloads whenever somebody asks for it by signal.
func (d *Daemon) heedHangups(ctx context.Context) {
	for {
		select {
		case <-d.o.Hangups:
			if _, _, err := d.Reload(ctx); err != nil {
				d.o.Log.Error("the configuration stays as it is", log.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// reloading tells the service manager that READY will follow (sd_notify(3)).
func (d *Daemon) reloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
	}
}

// differences are the keys in which two configurations differ, dotted.
func differences(prefix string, a, b reflect.Value) []string {
	var keys []string
	for i := range a.NumField() {
		key := a.Type().Field(i).Tag.Get("toml")
		switch {
		case key == "-":
		case a.Field(i).Kind() == reflect.Struct:
			keys = append(keys, differences(prefix+key+".", a.Field(i), b.Field(i))...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			keys = append(keys, prefix+key)
		}
	}
	slices.Sort(keys)
	return keys
}
