package wire

// How a monitor is started: /dev/null as descriptors 0, 1 and 2, the two below,
// RuntimeEnv in its environment, a session of its own, and the exit command as
// its arguments.
const (
	// ConnFD is the first connection.
	ConnFD = 3
	// DirFD is the directory of the socket.
	DirFD = 4
)

// SocketName is the name of the listening socket in the monitor's directory.
const SocketName = "monitor.sock"

// The variables that keep a monitor's Go runtime small: one P, and no garbage
// collection but those that the monitor asks for. The exit command does not get
// them.
const (
	EnvOneP = "GOMAXPROCS=1"
	EnvNoGC = "GOGC=off"
)
