// Counts JSON plays per video with go-nsq, as a user of that library would.
//
// consume:  counts what waits on a channel.
// pipeline: publishes plays in batches, then counts them.
// latency:  publishes plays at a rate and counts them as they come.
//
// The last line on stdout is the result as JSON.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

var (
	mode         = flag.String("mode", "consume", "consume, pipeline or latency")
	address      = flag.String("nsqd-tcp-address", "127.0.0.1:4150", "host:port of nsqd")
	topic        = flag.String("topic", "plays", "topic")
	channel      = flag.String("channel", "processor", "channel")
	messages     = flag.Int("num-messages", 1000, "plays to count")
	videos       = flag.Int("num-videos", 100, "videos to publish plays of")
	rate         = flag.Float64("rate", 1000, "latency: plays a second")
	maxInFlight  = flag.Int("max-in-flight", 2500, "messages in flight")
	outputBuffer = flag.Int64("output-buffer-size", 16384, "nsqd's buffer for this consumer; -1: none")
)

// The handlers that run at one time: as many as playcounts has workers.
const handlers = 2

// The plays of one MPUB: bench_writer's default.
const batch = 200

type play struct {
	VideoID    string `json:"video_id"`
	EnqueuedAt int64  `json:"enqueued_at"`
	Producer   string `json:"producer"`
	Seq        int    `json:"seq"`
}

// counter is what a handler of go-nsq shares.
type counter struct {
	sync.Mutex
	counts  map[string]int
	counted int
	times   []time.Duration
	first   time.Time
	last    time.Time
	done    chan struct{}
}

func (c *counter) HandleMessage(m *nsq.Message) error {
	var p play
	if err := json.Unmarshal(m.Body, &p); err != nil {
		return err
	}
	now := time.Now()
	c.Lock()
	defer c.Unlock()
	if c.counted == 0 {
		c.first = now
	}
	c.counts[p.VideoID]++
	c.counted++
	if *mode == "latency" {
		c.times = append(c.times, time.Duration(now.UnixNano()-p.EnqueuedAt))
	}
	if c.counted == *messages {
		c.last = now
		close(c.done)
	}
	return nil
}

func main() {
	flag.Parse()
	quiet := log.New(os.Stderr, "", 0)
	started := time.Now()
	var producer *nsq.Producer
	if *mode != "consume" {
		var err error
		producer, err = nsq.NewProducer(*address, nsq.NewConfig())
		check(err)
		producer.SetLogger(quiet, nsq.LogLevelWarning)
	}
	if *mode == "pipeline" {
		publishAll(producer)
	}
	config := nsq.NewConfig()
	config.MaxInFlight = *maxInFlight
	config.OutputBufferSize = *outputBuffer
	consumer, err := nsq.NewConsumer(*topic, *channel, config)
	check(err)
	consumer.SetLogger(quiet, nsq.LogLevelWarning)
	counter := &counter{counts: make(map[string]int), done: make(chan struct{})}
	consumer.AddConcurrentHandlers(counter, handlers)
	check(consumer.ConnectToNSQD(*address))
	if *mode == "latency" {
		publishAtRate(producer)
	}
	<-counter.done
	seconds := counter.last.Sub(counter.first).Seconds()
	if *mode == "pipeline" {
		seconds = counter.last.Sub(started).Seconds()
	}
	result := map[string]any{"counted": counter.counted, "videos": len(counter.counts), "seconds": seconds}
	if *mode == "latency" {
		sort.Slice(counter.times, func(i, j int) bool { return counter.times[i] < counter.times[j] })
		at := func(q float64) float64 {
			return float64(counter.times[int(q*float64(len(counter.times)-1))]) / 1e6
		}
		result["p50_ms"], result["p99_ms"] = at(0.50), at(0.99)
	}
	check(json.NewEncoder(os.Stdout).Encode(result))
	consumer.Stop()
	<-consumer.StopChan
	if producer != nil {
		producer.Stop()
	}
}

func publishAll(producer *nsq.Producer) {
	ids := videoIDs()
	bodies := make([][]byte, 0, batch)
	for seq := 0; seq < *messages; seq++ {
		bodies = append(bodies, body(ids, seq))
		if len(bodies) == batch || seq == *messages-1 {
			check(producer.MultiPublish(*topic, bodies))
			bodies = bodies[:0]
		}
	}
}

func publishAtRate(producer *nsq.Producer) {
	ids := videoIDs()
	start := time.Now()
	for seq := 0; seq < *messages; seq++ {
		time.Sleep(time.Until(start.Add(time.Duration(float64(seq) / *rate * float64(time.Second)))))
		check(producer.Publish(*topic, body(ids, seq)))
	}
}

func body(ids []string, seq int) []byte {
	body, err := json.Marshal(play{ids[rand.Intn(len(ids))], time.Now().UnixNano(), ids[0], seq})
	check(err)
	return body
}

func videoIDs() []string {
	ids := make([]string, *videos)
	for i := range ids {
		r := func() uint32 { return rand.Uint32() }
		ids[i] = fmt.Sprintf("%08x-%04x-4%03x-8%03x-%08x%04x", r(), r()>>16, r()>>20, r()>>20, r(), r()>>16)
	}
	return ids
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-nsq:", err)
		os.Exit(1)
	}
}
