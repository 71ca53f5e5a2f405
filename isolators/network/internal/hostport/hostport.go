package hostport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
)

const (
	lockName = "lock"
	// newSuffix ends the name of a file that is being written.
	newSuffix = ".new"
)

// Reservation is a port of the host that a container has.
type Reservation struct {
	// Owner is its CNI container id.
	Owner string                    `json:"owner"`
	Port  containerizer.PortMapping `json:"port"`
	// Targets are the container's addresses and ports it leads to, once known.
	Targets []netip.AddrPort `json:"targets,omitempty"`
}

// Name names p among all ports of the host, as it is recorded.
func Name(p containerizer.PortMapping) string {
	address := p.HostIP
	if address == "" {
		address = "any"
	}
	return fmt.Sprintf("%s-%d-%s", p.Protocol, p.HostPort, address)
}

// Overlap says whether a packet could be meant for both a and b.
func Overlap(a, b containerizer.PortMapping) bool {
	if a.Protocol != b.Protocol || a.HostPort != b.HostPort {
		return false
	}
	x, errX := netip.ParseAddr(a.HostIP)
	y, errY := netip.ParseAddr(b.HostIP)
	if errX != nil || errY != nil { // "" is every address
		return true
	}
	x, y = x.Unmap(), y.Unmap()
	return x.Is4() == y.Is4() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}

// Registry is the directory.
type Registry struct{ dir string }

// Open returns the registry in dir, which is created by the first reservation.
func Open(dir string) *Registry { return &Registry{dir: dir} }

// Reserve gives owner the ports. Each host port of 0 is chosen; acquire is called
// with each name before it is taken. The result has the ports as they are now; on
// error the caller releases those that acquire was told of. Errors:
// ErrAlreadyExists for a port that another container or a process of the host has,
// ErrInvalid for an address that the host has not.
func (r *Registry) Reserve(owner string, ports []containerizer.PortMapping, acquire func(name string) error) ([]containerizer.PortMapping, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	unlock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	taken, err := r.List()
	if err != nil {
		return nil, err
	}
	out := make([]containerizer.PortMapping, 0, len(ports))
	for _, p := range ports {
		if p.HostPort == 0 {
			if p.HostPort, err = choose(p, taken); err != nil {
				return nil, err
			}
		} else if err := check(owner, p, taken); err != nil {
			return nil, err
		}
		if err := acquire(Name(p)); err != nil {
			return nil, err
		}
		entry := Reservation{Owner: owner, Port: p}
		if err := r.write(entry); err != nil {
			return nil, err
		}
		taken = append(taken, entry)
		out = append(out, p)
	}
	return out, nil
}

func check(owner string, p containerizer.PortMapping, taken []Reservation) error {
	for _, t := range taken {
		if !Overlap(p, t.Port) {
			continue
		}
		if t.Owner == owner && Name(p) == Name(t.Port) {
			return nil // its own, from before
		}
		return fmt.Errorf("publish port %s: container %q has %s: %w", describe(p), containerizer.ContainerID(t.Owner).Short(), describe(t.Port), containerizer.ErrAlreadyExists)
	}
	err := bindable(p)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("publish port %s: the host has no address %s: %w", describe(p), p.HostIP, containerizer.ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("publish port %s: a process of the host uses it (%w): %w", describe(p), err, containerizer.ErrAlreadyExists)
	}
	return nil
}

func describe(p containerizer.PortMapping) string {
	address := p.HostIP
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	if address != "" {
		address += ":"
	}
	return fmt.Sprintf("%s%d/%s", address, p.HostPort, p.Protocol)
}

// SetTargets notes where owner's port p leads to.
func (r *Registry) SetTargets(owner string, p containerizer.PortMapping, targets []netip.AddrPort) error {
	return r.write(Reservation{Owner: owner, Port: p, Targets: targets})
}

// write replaces the file of e at once.
func (r *Registry) write(e Reservation) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode reservation of port %s: %w", describe(e.Port), err)
	}
	path := filepath.Join(r.dir, Name(e.Port))
	if err := os.WriteFile(path+newSuffix, b, 0o600); err != nil {
		return fmt.Errorf("reserve port %s: %w", describe(e.Port), err)
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("reserve port %s: %w", describe(e.Port), err)
	}
	return nil
}

// Get returns the reservation called name, and false when there is none.
func (r *Registry) Get(name string) (Reservation, bool, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, filepath.Base(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return Reservation{}, false, nil
	}
	if err != nil {
		return Reservation{}, false, fmt.Errorf("read reservation: %w", err)
	}
	var e Reservation
	if err := json.Unmarshal(b, &e); err != nil {
		return Reservation{}, false, fmt.Errorf("read reservation %q: %w: %w", name, err, containerizer.ErrDataCorrupt)
	}
	return e, true, nil
}

// Release frees the port called name if owner has it. owner must have been told
// of the name before (Reserve): what a reservation that was cut off left of it is
// removed as well.
func (r *Registry) Release(owner, name string) error {
	if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	e, found, err := r.Get(name)
	if errors.Is(err, containerizer.ErrDataCorrupt) {
		found, e.Owner, err = true, owner, nil // nobody else can claim it
	}
	if err != nil || (found && e.Owner != owner) {
		return err
	}
	path := filepath.Join(r.dir, filepath.Base(name))
	for _, file := range []string{path + newSuffix, path} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release port: %w", err)
		}
	}
	return nil
}

// Sweep removes files that were being written when their process was killed.
func (r *Registry) Sweep() error {
	files, err := filepath.Glob(filepath.Join(r.dir, "*"+newSuffix))
	if err != nil || len(files) == 0 {
		return err
	}
	unlock, err := r.lock() // so that no reservation is being made
	if err != nil {
		return err
	}
	defer unlock()
	for _, f := range files {
		if _, found, err := r.Get(strings.TrimSuffix(filepath.Base(f), newSuffix)); err != nil || found {
			continue // its owner may be noting targets
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an unfinished reservation: %w", err)
		}
	}
	return nil
}

// List returns all reservations; damaged files are left out.
func (r *Registry) List() ([]Reservation, error) {
	files, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ports: %w", err)
	}
	var out []Reservation
	for _, f := range files {
		if f.Name() == lockName || strings.HasSuffix(f.Name(), newSuffix) {
			continue
		}
		e, found, err := r.Get(f.Name())
		if errors.Is(err, containerizer.ErrDataCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, e)
		}
	}
	return out, nil
}

func (r *Registry) lock() (unlock func(), err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create port registry: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(r.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open port registry: %w", err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock port registry: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock; nothing was written
}
