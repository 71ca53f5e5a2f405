// Package network gives containers their network: isolator "network/cni".
//
// What it does follows Spec.Namespaces.Network. A private namespace is attached to
// CNI networks, the default one when none is named (Network.None: loopback only);
// one that belongs to the parent or another container brings that one's files;
// in the host's, a container gets files and nothing else. The namespace itself is
// made by the isolator of namespaces.
//
// Networks are CNI configuration lists, found by name in Options.ConfigDirs and
// executed by plug-ins from Options.PluginDirs. The default network "berth" needs
// neither: it is generated, and its plug-in type "berth-bridge" runs in this
// process (internal/bridge), with addresses as host-local keeps them
// (internal/ipam), translation and published ports by nftables (internal/nat) and
// host ports given out under a lock (internal/hostport).
//
// Files. hosts, hostname and resolv.conf of /etc are generated and bound over the
// image's, unless the spec says otherwise or a mount of the user is on that path.
//
// On disk, below Options.StateDir (lost at a reboot):
//
//	network/containers/ID/{hosts,hostname,resolv.conf}
//	network/berth.conflist       the default network as generated
//	network/ipam/NETWORK/ADDRESS who has an address
//	network/ports/PORT           who has a port of the host
//
// and below Options.RootDir (kept, since plug-ins of other makers keep state of
// their own over a reboot that must be released):
//
//	network/attachments/ID.json  networks and ports of a container, with the
//	                             configuration that was used
//	network/cache/               libcni's results
//
// Kernel needs: bridge, veth; nftables with NAT for masquerading and published
// ports. Without the latter, containers have the network of the host only.
//
// Main invariant: what the attachment file of a container names is released by
// Cleanup, from any point at which Prepare or Isolate was cut off.
package network
