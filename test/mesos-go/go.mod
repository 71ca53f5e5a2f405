module github.com/berth-dev/berth/test/mesos-go

go 1.21

require github.com/mesos/mesos-go v0.0.11
