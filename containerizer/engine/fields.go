package engine

import (
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

func fieldID(id containerizer.ContainerID) log.Field { return log.String("container_id", string(id)) }

func fieldError(err error) log.Field { return log.Error(err) }

func fieldIsolator(name string) log.Field { return log.String("isolator", name) }
