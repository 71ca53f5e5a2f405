package wire

// ConnFD is a monitor's first connection. It is started with /dev/null as
// descriptors 0, 1 and 2, this one, the variables below in its environment, a
// session of its own, and the exit command as its arguments. The directory of its
// socket comes in a frame of type TypeHome before the first launch, since it need
// not exist when the monitor is started.
const ConnFD = 3

// A monitor that is started before it is known for which container has LateRoom bytes
// LateFill as the last argument of its exit command; the body of its TypeHome is what
// comes there.
const (
	LateRoom = 64
	LateFill = '.'
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
