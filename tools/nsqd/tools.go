//go:build tools

// Package tools pins the real nsqd and nsqlookupd that the tests run against, the nsqadmin of scripts/start-nsq, and what
// scripts/bench measures with.
package tools

import (
	_ "github.com/nsqio/nsq/apps/nsqadmin"
	_ "github.com/nsqio/nsq/apps/nsqd"
	_ "github.com/nsqio/nsq/apps/nsqlookupd"
	_ "github.com/nsqio/nsq/bench/bench_reader"
	_ "github.com/nsqio/nsq/bench/bench_writer"
)
