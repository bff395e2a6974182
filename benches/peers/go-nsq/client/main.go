// The client go-nsq alone, beside which the example `measure` of nsq-protocol is run.
//
// publish: so many goroutines publish one by one through one producer, each waiting for nsqd's answer.
// handle:  so many handlers, each of which takes -each for a message.
//
// The last line on stdout is the result as JSON: seconds, of CPU too, and milliseconds of one publish.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqio/go-nsq"
)

var (
	mode        = flag.String("mode", "publish", "publish or handle")
	address     = flag.String("nsqd", "127.0.0.1:4150", "host:port of nsqd")
	topic       = flag.String("topic", "t", "topic")
	messages    = flag.Int("messages", 1000, "messages in all")
	goroutines  = flag.Int("goroutines", 1, "that publish, or handle")
	each        = flag.Duration("each", 0, "handle: what a message takes")
	maxInFlight = flag.Int("max-in-flight", 1, "handle: messages in flight")
	msgTimeout  = flag.Duration("msg-timeout", time.Minute, "handle: after which nsqd delivers again")
)

var quiet = log.New(os.Stderr, "", 0)

func main() {
	flag.Parse()
	if *mode == "handle" {
		handle()
	} else {
		publish()
	}
}

func publish() {
	producer, err := nsq.NewProducer(*address, nsq.NewConfig())
	check(err)
	producer.SetLogger(quiet, nsq.LogLevelWarning)
	check(producer.Publish(*topic, []byte("first")))
	body := bytes.Repeat([]byte("x"), 120)
	took := make([]time.Duration, *messages)
	part := *messages / *goroutines
	var all sync.WaitGroup
	began := time.Now()
	for i := 0; i < *goroutines; i++ {
		all.Add(1)
		go func(took []time.Duration) {
			defer all.Done()
			for n := range took {
				began := time.Now()
				check(producer.Publish(*topic, body))
				took[n] = time.Since(began)
			}
		}(took[i*part : (i+1)*part])
	}
	all.Wait()
	seconds := time.Since(began).Seconds()
	producer.Stop()
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))]) / 1e6 }
	report(map[string]any{"seconds": seconds, "p50": at(0.50), "p99": at(0.99), "cpu": cpu()})
}

func handle() {
	config := nsq.NewConfig()
	config.MaxInFlight = *maxInFlight
	config.MsgTimeout = *msgTimeout
	began := time.Now()
	consumer, err := nsq.NewConsumer(*topic, "c", config)
	check(err)
	consumer.SetLogger(quiet, nsq.LogLevelError)
	var redelivered, done atomic.Int64
	all := make(chan struct{})
	handler := func(m *nsq.Message) error {
		if m.Attempts > 1 {
			redelivered.Add(1)
		}
		if *each > 0 {
			time.Sleep(*each)
		}
		if done.Add(1) == int64(*messages) {
			close(all)
		}
		return nil
	}
	consumer.AddConcurrentHandlers(nsq.HandlerFunc(handler), *goroutines)
	check(consumer.ConnectToNSQD(*address))
	<-all
	seconds := time.Since(began).Seconds()
	consumer.Stop()
	<-consumer.StopChan
	report(map[string]any{"seconds": seconds, "redelivered": redelivered.Load(), "cpu": cpu()})
}

// cpu is the user and system time of this process in seconds.
func cpu() float64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func report(result map[string]any) {
	check(json.NewEncoder(os.Stdout).Encode(result))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-nsq:", err)
		os.Exit(1)
	}
}
