//go:build tools

// Package tools pins the real nsqd and nsqlookupd that the tests run against.
package tools

import (
	_ "github.com/nsqio/nsq/apps/nsqd"
	_ "github.com/nsqio/nsq/apps/nsqlookupd"
)
