package hostport

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
)

// attempts bounds the search for a free port.
const attempts = 128

// bindable says whether a process could listen on p's host address and port now,
// on every family it means. A family or protocol that the kernel lacks is fine.
func bindable(p containerizer.PortMapping) error {
	for _, addr := range hostAddresses(p) {
		if _, err := bind(p.Protocol, addr, p.HostPort); err != nil {
			return err
		}
	}
	return nil
}

// hostAddresses are the addresses that p's HostIP stands for.
func hostAddresses(p containerizer.PortMapping) []netip.Addr {
	if addr, err := netip.ParseAddr(p.HostIP); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// choose returns a port that neither a process nor a reservation has.
func choose(p containerizer.PortMapping, taken []Reservation) (uint16, error) {
	addr := hostAddresses(p)[0]
next:
	for range attempts {
		port, err := bind(p.Protocol, addr, 0)
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return 0, fmt.Errorf("publish container port %d/%s: the host has no address %s: %w", p.ContainerPort, p.Protocol, p.HostIP, containerizer.ErrInvalid)
		}
		if err != nil {
			return 0, fmt.Errorf("choose a host port for container port %d/%s: %w", p.ContainerPort, p.Protocol, err)
		}
		p.HostPort = port
		for _, t := range taken {
			if Overlap(p, t.Port) {
				continue next
			}
		}
		if port != 0 && bindable(p) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("choose a host port for container port %d/%s: none of %d tried is free: %w", p.ContainerPort, p.Protocol, attempts, containerizer.ErrResourceExhausted)
}

// bind binds a socket to addr and port, 0 for any, closes it and returns the port.
func bind(protocol containerizer.Protocol, addr netip.Addr, port uint16) (uint16, error) {
	family, sa := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(port), Addr: addr.As16()})
	if addr.Is4() {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	fd, err := socket(family, protocol)
	if errors.Is(err, syscall.EPROTONOSUPPORT) && protocol == containerizer.ProtocolSCTP {
		if port != 0 {
			return port, nil // without SCTP nobody listens
		}
		fd, err = socket(family, containerizer.ProtocolTCP) // tells a free number as well
	}
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		return port, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }() // nothing was sent
	if err := syscall.Bind(fd, sa); err != nil {
		if family == syscall.AF_INET6 && errors.Is(err, syscall.EADDRNOTAVAIL) && addr.IsUnspecified() {
			return port, nil // IPv6 is disabled
		}
		return 0, fmt.Errorf("bind %s: %w", netip.AddrPortFrom(addr, port), err)
	}
	return boundPort(fd)
}

// socket opens one for listening: of one family only, and beside connections in
// TIME_WAIT, which are no listeners.
func socket(family int, protocol containerizer.Protocol) (int, error) {
	kind, proto := syscall.SOCK_STREAM, syscall.IPPROTO_TCP
	switch protocol {
	case containerizer.ProtocolUDP:
		kind, proto = syscall.SOCK_DGRAM, syscall.IPPROTO_UDP
	case containerizer.ProtocolSCTP:
		proto = syscall.IPPROTO_SCTP
	case containerizer.ProtocolTCP:
	}
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	if family == syscall.AF_INET6 {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
	}
	if kind == syscall.SOCK_STREAM && err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("set a socket option: %w", err), syscall.Close(fd))
	}
	return fd, nil
}

func boundPort(fd int) (uint16, error) {
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("read the chosen port: %w", err)
	}
	switch b := bound.(type) {
	case *syscall.SockaddrInet4:
		return uint16(b.Port), nil
	case *syscall.SockaddrInet6:
		return uint16(b.Port), nil
	}
	return 0, fmt.Errorf("read the chosen port: address of type %T", bound)
}
