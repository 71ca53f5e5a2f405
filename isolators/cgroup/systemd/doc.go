// Package systemd makes the units that isolators/cgroup asks for, over D-Bus:
// systemd's own socket where it can be reached (root, no bus daemon between),
// else the system bus.
//
// It is a package of its own so that only those who configure the systemd driver
// pay for it. Nothing is connected before the first unit is asked for.
//
// systemd takes no empty scope, and ends one whose last process is gone. So a
// scope is started with a process of our own, which sleeps; the container's
// process is cloned into the scope beside it, and then the sleeper is killed.
package systemd
