package specflag

// Refusal says why berth has not got a flag of Docker or Podman, "" for one that
// they have not got either.
func Refusal(flag string) string {
	switch flag {
	case "restart":
		return "berth does not restart containers: that is a scheduler's or systemd's work"
	case "health-cmd", "health-interval", "health-retries", "health-start-period", "health-start-interval",
		"health-timeout", "no-healthcheck", "health-on-failure":
		return "berth runs no health checks: that is a scheduler's work (berth exec runs a probe)"
	case "gpus":
		return "name the devices: --device /dev/dri/renderD128"
	case "link", "link-local-ip":
		return "links are not supported: containers in one network reach each other by address"
	case "kernel-memory":
		return "the kernel has no kernel memory limit of its own since 5.4"
	case "volume-driver":
		return "volumes are directories of this node; mount anything else on the host and bind it"
	case "storage-opt":
		return "size limits of the writable layer are not supported"
	case "isolation", "cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops":
		return "it is for Windows containers"
	case "disable-content-trust":
		return "berth verifies every image by its digests and knows no content trust servers"
	case "init-path":
		return "--init runs berth's own init"
	case "pod", "pod-id-file", "infra":
		return "pods are made through CRI"
	case "use-api-socket":
		return "there is no Docker socket to mount"
	case "replace":
		return "remove the old container first (berth rm -f NAME)"
	}
	return ""
}
