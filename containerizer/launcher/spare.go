package launcher

import (
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// refillPause is from the end of a launch to the start of the next spare monitor, which
// would take the processor from the container that starts and from who waits for it.
const refillPause = 25 * time.Millisecond

// spare returns a monitor that was started before anybody knew what for, or nil. l.mu
// is held.
func (l *Launcher) spare(id containerizer.ContainerID) *client.Client {
	if len(id) > client.MaxLate {
		return nil
	}
	for len(l.spares) > 0 {
		m := l.spares[0]
		l.spares = l.spares[1:]
		if !ended(m) {
			return m
		}
	}
	return nil
}

// refill starts as many spare monitors as there should be. They end with this process,
// or with Close: they have no container.
func (l *Launcher) refill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.spares) < l.opts.Spares && !l.closed {
		o := client.Options{Env: l.opts.ExitEnv, ExitCommand: l.opts.ExitCommand, Late: len(l.opts.ExitCommand) > 0}
		m, err := client.Spawn(l.opts.Monitor, o)
		if err != nil {
			return // who needs one will say why
		}
		l.spares = append(l.spares, m)
	}
}
