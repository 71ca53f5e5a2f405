// Package wire is the form of the messages between berth-monitor and its clients.
//
// The transport is a unix SOCK_SEQPACKET socket: one message is one frame, an
// eight-byte header and a body, at most [MaxFrame] bytes. All numbers are
// little-endian, strings are bytes with a 16-bit length before them. Descriptors
// travel beside a frame as SCM_RIGHTS, at most [MaxFDs] a frame; more go ahead in
// [TypeDescriptors] frames.
//
// A tag chosen by the client ties together a request and everything that follows
// from it: replies, the data frames of a session, the notice of an exit. Requests
// name a container by its element name; only session frames rely on the tag.
//
//	Launch, Release    → Barrier | Held | Running | Failed | Error …, later Exited
//	Attach             → OK, then the session
//	Wait               → Exited
//	List               → Element …, OK
//	HoldNamespaces     → Namespaces
//	Home               → nothing
//	all others         → OK
//
// and Error instead of any of them. A session is: Data both ways, Ack both ways,
// CloseStdin, Resize and Detach from the client, StdinClosed, Dropped and
// OutputEnd from the monitor. Neither side sends more than its window without an
// Ack: [StdinWindow] bytes towards the process, [OutputWindow] from it.
//
// Compatibility: monitors outlive the installation of newer clients. Within one
// [Version], fields are only added at the end of a body; a receiver ignores bytes
// after the fields it knows, and a monitor answers a type that it does not know
// with Error (ENOSYS), after which the connection goes on.
//
// The package links into berth-monitor: it imports next to nothing and allocates only
// where a caller passes a short buffer.
package wire
