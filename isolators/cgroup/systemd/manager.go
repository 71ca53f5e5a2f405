package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	sddbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
)

// privateSocket is where systemd itself listens, for root.
const privateSocket = "/run/systemd/private"

// Options configure a [Manager]; the zero value is right outside of tests.
type Options struct {
	// Socket is systemd's private socket; empty is /run/systemd/private, and the
	// system bus if that cannot be used.
	Socket string
	// Sleeper is the command that keeps a scope alive while a container is launched;
	// nil is "sleep infinity".
	Sleeper []string
}

// Manager is a connection to systemd, made when it is first needed and again when
// it broke. It is safe for concurrent use.
type Manager struct {
	socket  string
	sleeper []string

	mu   sync.Mutex
	conn *sddbus.Conn // nil before the first use
}

var _ cgroup.UnitManager = (*Manager)(nil)

// New returns a manager that is not connected yet.
func New(o Options) *Manager {
	m := &Manager{socket: o.Socket, sleeper: o.Sleeper}
	if len(m.sleeper) == 0 {
		m.sleeper = []string{"sleep", "infinity"}
	}
	return m
}

// Close ends the connection. Calls that are waiting fail.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// connect returns the connection, a new one if there was none or it broke.
func (m *Manager) connect(ctx context.Context) (*sddbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	// The library ends a connection with the context that it was made with, and this
	// one outlives the call.
	ctx = context.WithoutCancel(ctx)
	socket := m.socket
	if socket == "" {
		socket = privateSocket
	}
	conn, err := sddbus.NewConnection(func() (*dbus.Conn, error) { return dial(ctx, socket) })
	if err != nil && m.socket == "" {
		var busErr error
		if conn, busErr = sddbus.NewSystemConnectionContext(ctx); busErr != nil {
			err = errors.Join(err, busErr)
		} else {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w: %w", err, containerizer.ErrUnavailable)
	}
	m.conn = conn
	return conn, nil
}

// dial connects to systemd's private socket, where there is no bus to greet.
func dial(ctx context.Context, socket string) (*dbus.Conn, error) {
	conn, err := dbus.Dial("unix:path="+socket, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// StartScope implements cgroup.UnitManager.
func (m *Manager) StartScope(ctx context.Context, u cgroup.Unit) (*cgroup.Keeper, error) {
	sleeper := exec.CommandContext(context.WithoutCancel(ctx), m.sleeper[0], m.sleeper[1:]...)
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := sleeper.Start(); err != nil {
		return nil, fmt.Errorf("start what keeps the scope alive: %w", err)
	}
	var once sync.Once
	keeper := &cgroup.Keeper{PID: sleeper.Process.Pid, Release: func() error {
		once.Do(func() {
			_ = sleeper.Process.Kill() // an error is that it has ended
			_ = sleeper.Wait()         // it was killed
		})
		return nil
	}}
	properties := append(unitProperties(u),
		sddbus.PropPids(uint32(keeper.PID)),
		sddbus.Property{Name: "Delegate", Value: dbus.MakeVariant(true)},
		// There is nothing to wait for: whoever stops the unit has killed what is in it.
		sddbus.Property{Name: "TimeoutStopUSec", Value: dbus.MakeVariant(uint64(time.Second / time.Microsecond))},
	)
	if err := m.start(ctx, u.Name, properties); err != nil {
		return nil, errors.Join(err, keeper.Release())
	}
	return keeper, nil
}

// StartSlice implements cgroup.UnitManager.
func (m *Manager) StartSlice(ctx context.Context, u cgroup.Unit) error {
	return m.start(ctx, u.Name, unitProperties(u))
}

// SetProperties implements cgroup.UnitManager.
func (m *Manager) SetProperties(ctx context.Context, name string, properties []cgroup.Property) error {
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	return classify(conn.SetUnitPropertiesContext(ctx, name, true, variants(properties)...))
}

// Stop implements cgroup.UnitManager.
func (m *Manager) Stop(ctx context.Context, name string) error {
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	_, err = conn.StopUnitContext(ctx, name, "replace", done)
	if isError(err, noSuchUnit) {
		return nil
	}
	if err != nil {
		return classify(err)
	}
	if err := await(ctx, done); err != nil {
		return err
	}
	// A scope whose processes were killed has failed, and is remembered until this.
	if err := conn.ResetFailedUnitContext(ctx, name); err != nil && !isError(err, noSuchUnit) {
		return classify(err)
	}
	return nil
}

// start starts a transient unit and waits for it. A failed one of that name, left
// by an earlier container, makes room first.
func (m *Manager) start(ctx context.Context, name string, properties []sddbus.Property) error {
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, name, "replace", properties, done)
	if isError(err, unitExists) {
		if resetErr := conn.ResetFailedUnitContext(ctx, name); resetErr == nil {
			_, err = conn.StartTransientUnitContext(ctx, name, "replace", properties, done)
		}
	}
	if err != nil {
		return classify(err)
	}
	return await(ctx, done)
}

// await waits for the result of a job.
func await(ctx context.Context, done <-chan string) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for systemd: %w", ctx.Err())
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd's job ended as %q, see its journal: %w", result, containerizer.ErrUnavailable)
		}
		return nil
	}
}

// unitProperties are those of every unit of ours. Accounting makes systemd enable
// the controllers.
func unitProperties(u cgroup.Unit) []sddbus.Property {
	properties := []sddbus.Property{
		sddbus.PropDescription(u.Description),
		{Name: "DefaultDependencies", Value: dbus.MakeVariant(false)},
	}
	for _, name := range []string{"CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"} {
		properties = append(properties, sddbus.Property{Name: name, Value: dbus.MakeVariant(true)})
	}
	if slice := u.Slice; slice != "" && !isSlice(u.Name) { // a slice's place is in its name
		properties = append(properties, sddbus.PropSlice(slice))
	}
	return append(properties, variants(u.Properties)...)
}

func isSlice(name string) bool { return len(name) > 6 && name[len(name)-6:] == ".slice" }

func variants(list []cgroup.Property) []sddbus.Property {
	properties := make([]sddbus.Property, 0, len(list))
	for _, p := range list {
		properties = append(properties, sddbus.Property{Name: p.Name, Value: dbus.MakeVariant(p.Value)})
	}
	return properties
}

// Names of D-Bus errors (sd-bus-errors(3), bus-common-errors.h of systemd).
const (
	noSuchUnit      = "org.freedesktop.systemd1.NoSuchUnit"
	unitExists      = "org.freedesktop.systemd1.UnitExists"
	invalidArgs     = "org.freedesktop.DBus.Error.InvalidArgs"
	propertyRO      = "org.freedesktop.DBus.Error.PropertyReadOnly"
	accessDenied    = "org.freedesktop.DBus.Error.AccessDenied"
	unknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"
)

func isError(err error, names ...string) bool {
	var e dbus.Error
	return errors.As(err, &e) && slices.Contains(names, e.Name)
}

// classify gives systemd's refusals our classes.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case isError(err, unitExists):
		return fmt.Errorf("%w: %w", err, containerizer.ErrAlreadyExists)
	case isError(err, noSuchUnit):
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	case isError(err, invalidArgs):
		return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	case isError(err, propertyRO, unknownProperty):
		return fmt.Errorf("%w; this version of systemd does not have the property: %w", err, containerizer.ErrUnsupported)
	case isError(err, accessDenied):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	case errors.Is(err, dbus.ErrClosed):
		return fmt.Errorf("%w: %w", err, containerizer.ErrUnavailable)
	}
	return err
}
