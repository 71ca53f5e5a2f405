package translate

import (
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// bridgeNetwork is the network of containers that are published through a bridge.
const bridgeNetwork = "berth"

// fromDocker is a container that was meant for Docker in the words of one that is not.
// What only Docker knows is refused.
func fromDocker(c *mesosv1.ContainerInfo) (*mesosv1.ContainerInfo, error) {
	d := c.GetDocker()
	switch {
	case d.GetImage() == "":
		return nil, invalid("a container of type DOCKER has no image")
	case d.GetPrivileged():
		return nil, unsupported("a privileged container")
	case len(d.GetParameters()) > 0:
		return nil, unsupported("parameter %.100q for the command line of Docker", d.GetParameters()[0].GetKey())
	case d.GetVolumeDriver() != "":
		return nil, unsupported("volumes of a driver of Docker")
	}
	c = proto.CloneOf(c)
	c.Type, c.Docker = mesosv1.ContainerInfo_MESOS.Enum(), nil
	c.Mesos = &mesosv1.ContainerInfo_MesosInfo{Image: &mesosv1.Image{
		Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: new(d.GetImage())}, Cached: new(!d.GetForcePullImage()),
	}}
	switch d.GetNetwork() {
	case mesosv1.ContainerInfo_DockerInfo_HOST:
		if len(d.GetPortMappings()) > 0 {
			return nil, invalid("ports of a container in the host's network are not mapped")
		}
	case mesosv1.ContainerInfo_DockerInfo_BRIDGE:
		info := &mesosv1.NetworkInfo{Name: new(bridgeNetwork)}
		for _, p := range d.GetPortMappings() {
			info.PortMappings = append(info.PortMappings, &mesosv1.NetworkInfo_PortMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
		}
		c.NetworkInfos = []*mesosv1.NetworkInfo{info}
	case mesosv1.ContainerInfo_DockerInfo_NONE, mesosv1.ContainerInfo_DockerInfo_USER:
		return nil, unsupported("network %s of a container of type DOCKER; name it in network_infos of one of type MESOS", d.GetNetwork())
	}
	return c, nil
}
