// Command berth-monitor is the small parent of the processes of one root
// container: see package monitor. It is started by berth and berthd only, with
// its first connection as descriptor 3, and the command to execute when nobody else
// tears the container down as its arguments.
//
// The directives below spare the start of the Go runtime a look at the control
// groups, and the running one another every second: one P is enough (see
// wire.EnvOneP).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor"
)

func main() { syscall.Exit(monitor.Run()) }
