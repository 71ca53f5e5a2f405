// Package bridge is a CNI plug-in that runs inside berth: type "berth-bridge". It
// gives a container an interface on a bridge of the host, an address, a default
// route, translation to the outside and published ports, in one step and without
// starting a program. It does what the chain bridge, host-local, firewall and
// portmap of containernetworking/plugins does; addresses are kept as host-local
// keeps them.
//
// It takes the configuration fields bridge, subnets, ipMasq, isolate, mtu, and the
// capabilities portMappings, ips and mac. Everything it makes can be found again
// from the container's id and the interface's name, so DEL needs neither the
// namespace nor an earlier result.
//
// Main invariant: ADD is undone by DEL from any point at which it was cut off.
package bridge
