package engine

import (
	"go.uber.org/zap"

	"github.com/berth-dev/berth/containerizer"
)

func fieldID(id containerizer.ContainerID) zap.Field { return zap.String("container_id", string(id)) }

func fieldError(err error) zap.Field { return zap.Error(err) }

func fieldIsolator(name string) zap.Field { return zap.String("isolator", name) }
