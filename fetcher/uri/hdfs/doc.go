// Package hdfs reads "hdfs://" and other URIs of Hadoop's file systems by an external
// command, hadoop or hdfs, as Mesos does: it has the site's configuration and
// security.
//
// The content comes through a pipe ("fs -cat"), so that limits and stalls are ours to
// see. The command gets an environment of its own: PATH, HOME, and the variables of
// Hadoop, Java and Kerberos. Characters that it would take for patterns are refused.
// The version of a file is its length and time ("fs -stat").
package hdfs
