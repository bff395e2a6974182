// Counts JSON plays per video with go-nsq, as a user of that library would, and publishes them as a site would.
//
// consume:  counts what a channel has and gets.
// pipeline: publishes plays in batches, then counts them; they are as short as those of playcounts.
// publish:  publishes a site's own plays: in batches, or with -rate one by one.
// site:     publishes them one by one at -rate, on all nsqds of the list, until SIGTERM, whatever becomes of the nsqds.
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
	"os/signal"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqio/go-nsq"
)

var (
	mode         = flag.String("mode", "consume", "consume, pipeline, publish or site")
	address      = flag.String("nsqd-tcp-address", "127.0.0.1:4150", "host:port of nsqd; site: several, with commas")
	topic        = flag.String("topic", "plays", "topic")
	channel      = flag.String("channel", "processor", "channel")
	messages     = flag.Int("num-messages", 1000, "plays to count")
	videos       = flag.Int("num-videos", 100, "videos to publish plays of")
	rate         = flag.Float64("rate", 0, "publish: plays a second, one by one; 0: batches, as fast as it goes")
	goroutines   = flag.Int("goroutines", 1, "publish: that publish at the rate, each waiting for nsqd's answer")
	connections  = flag.Int("connections", 1, "publish: that they share")
	textIDs      = flag.Bool("text-ids", false, "publish, site: ids of 11 characters, not GUIDs")
	nested       = flag.Bool("nested", false, "publish, site: JSON of another shape, the video at /event/video/hashed_id")
	twice        = flag.Bool("twice", false, "site: every fifth play twice, as one that is not sure that the first was taken")
	withTimes    = flag.Bool("times", false, "consume: tell how long it took from enqueued_at to counted")
	maxInFlight  = flag.Int("max-in-flight", 2500, "messages in flight")
	outputBuffer = flag.Int64("output-buffer-size", 16384, "nsqd's buffer for this consumer; -1: none")
)

var quiet = log.New(os.Stderr, "", 0)

// The handlers that run at one time: as many as playcounts has workers.
const handlers = 2

// The plays of one MPUB: bench_writer's default.
const batch = 200

// A site's session is cut into so many places of the film.
const places = 1200

// play is what is read of a body, and what pipeline publishes.
type play struct {
	VideoID    string `json:"video_id"`
	EnqueuedAt int64  `json:"enqueued_at"`
	Producer   string `json:"producer"`
	Seq        int    `json:"seq"`
}

// sitePlay is a play as a site publishes it that knows nothing of playcounts but its two fields.
type sitePlay struct {
	Event      string  `json:"event"`
	VideoID    string  `json:"video_id"`
	UserID     string  `json:"user_id"`
	Session    string  `json:"session"`
	EnqueuedAt int64   `json:"enqueued_at"`
	Position   float64 `json:"position"`
	Player     player  `json:"player"`
}

// nestedPlay is the same of a site whose fields have other names and places.
type nestedPlay struct {
	Type  string `json:"type"`
	Event struct {
		ID    string `json:"id"`
		At    int64  `json:"at"`
		Video struct {
			HashedID string  `json:"hashed_id"`
			Position float64 `json:"position"`
		} `json:"video"`
	} `json:"event"`
	UserID string `json:"user_id"`
	Player player `json:"player"`
}

type player struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Autoplay bool   `json:"autoplay"`
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
	if *withTimes {
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
	started := time.Now()
	switch *mode {
	case "publish":
		publish(started)
	case "site":
		site()
	case "pipeline":
		publishAll(ownBody)
		consume(&started)
	default:
		consume(nil)
	}
}

// consume counts until it has all; what it took is from started, or from the first message.
func consume(started *time.Time) {
	config := nsq.NewConfig()
	config.MaxInFlight = *maxInFlight
	config.OutputBufferSize = *outputBuffer
	consumer, err := nsq.NewConsumer(*topic, *channel, config)
	check(err)
	consumer.SetLogger(quiet, nsq.LogLevelWarning)
	counter := &counter{counts: make(map[string]int), done: make(chan struct{})}
	consumer.AddConcurrentHandlers(counter, handlers)
	check(consumer.ConnectToNSQD(*address))
	<-counter.done
	if started == nil {
		started = &counter.first
	}
	seconds := counter.last.Sub(*started).Seconds()
	result := map[string]any{"counted": counter.counted, "videos": len(counter.counts), "seconds": seconds}
	if *withTimes {
		result["consumption_ms"] = quantiles(counter.times)
	}
	report(result)
	consumer.Stop()
	<-consumer.StopChan
}

func publish(started time.Time) {
	result := map[string]any{}
	if *rate > 0 {
		late, took := publishAtRate()
		// How long behind its time a publish began, and how long nsqd's answer took.
		result["late_ms"], result["publish_ms"] = quantiles(late), quantiles(took)
	} else {
		publishAll(siteBody)
	}
	result["published"], result["seconds"] = *messages, time.Since(started).Seconds()
	report(result)
}

func publishAll(body func(ids []string, seq int) []byte) {
	producer := newProducer(*address)
	defer producer.Stop()
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

// publishAtRate has whichever goroutine is free publish the next play when its time has come.
func publishAtRate() (late, took []time.Duration) {
	producers := make([]*nsq.Producer, *connections)
	for i := range producers {
		producers[i] = newProducer(*address)
		check(producers[i].Ping())
	}
	ids := videoIDs()
	late, took = make([]time.Duration, *messages), make([]time.Duration, *messages)
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for i := 0; i < *goroutines; i++ {
		producer := producers[i%*connections]
		all.Add(1)
		go func() {
			defer all.Done()
			for seq := int(next.Add(1)) - 1; seq < *messages; seq = int(next.Add(1)) - 1 {
				due := start.Add(time.Duration(float64(seq) / *rate * float64(time.Second)))
				time.Sleep(time.Until(due))
				began := time.Now()
				check(producer.Publish(*topic, siteBody(ids, seq)))
				late[seq], took[seq] = began.Sub(due), time.Since(began)
			}
		}()
	}
	all.Wait()
	for _, producer := range producers {
		producer.Stop()
	}
	return late, took
}

// site has a goroutine for each nsqd, so that one that hangs stops no other. It reports of each video how many plays were
// attempted, and how many were acknowledged.
func site() {
	addresses := strings.Split(*address, ",")
	ids := videoIDs()
	var lock sync.Mutex
	videos := make(map[string]*[2]int, len(ids))
	for _, id := range ids {
		videos[id] = new([2]int)
	}
	for i, address := range addresses {
		go func(i int, address string) {
			producer := newProducer(address)
			start := time.Now()
			pause := float64(len(addresses)) / *rate * float64(time.Second)
			for n := 0; ; n++ {
				time.Sleep(time.Until(start.Add(time.Duration(float64(n) * pause))))
				seq := n*len(addresses) + i
				id := ids[seq%len(ids)]
				lock.Lock()
				videos[id][0]++
				lock.Unlock()
				body := siteBody([]string{id}, seq)
				taken := publishSure(producer, body)
				if *twice && seq%5 == 0 {
					taken = publishSure(producer, body) || taken
				}
				if taken {
					lock.Lock()
					videos[id][1]++
					lock.Unlock()
				}
			}
		}(i, address)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	lock.Lock()
	report(map[string]any{"videos": videos})
}

// publishSure tells whether nsqd has taken it.
func publishSure(producer *nsq.Producer, body []byte) bool {
	err := producer.Publish(*topic, body)
	if err != nil {
		quiet.Println(err)
	}
	return err == nil
}

func newProducer(address string) *nsq.Producer {
	producer, err := nsq.NewProducer(address, nsq.NewConfig())
	check(err)
	producer.SetLogger(quiet, nsq.LogLevelWarning)
	return producer
}

func ownBody(ids []string, seq int) []byte {
	return marshal(play{ids[rand.Intn(len(ids))], time.Now().UnixNano(), ids[0], seq})
}

func siteBody(ids []string, seq int) []byte {
	if *nested {
		play := nestedPlay{Type: "play", UserID: uuid(), Player: player{"web", "3.2.1", false}}
		play.Event.ID = fmt.Sprintf("s-%08x", seq)
		play.Event.At = time.Now().UnixMilli()
		play.Event.Video.HashedID = ids[rand.Intn(len(ids))]
		play.Event.Video.Position = float64(seq%places) / 2
		return marshal(play)
	}
	return marshal(sitePlay{
		Event:      "play",
		VideoID:    ids[rand.Intn(len(ids))],
		UserID:     uuid(),
		Session:    fmt.Sprintf("s-%08x", seq),
		EnqueuedAt: time.Now().UnixNano(),
		Position:   float64(seq%places) / 2,
		Player:     player{"web", "3.2.1", false},
	})
}

func marshal(play any) []byte {
	body, err := json.Marshal(play)
	check(err)
	return body
}

func videoIDs() []string {
	ids := make([]string, *videos)
	for i := range ids {
		ids[i] = uuid()
		if *textIDs {
			ids[i] = text()
		}
	}
	return ids
}

// text is as long as YouTube's ids.
func text() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	id := make([]byte, 11)
	for i := range id {
		id[i] = letters[rand.Intn(len(letters))]
	}
	return string(id)
}

func uuid() string {
	r := func() uint32 { return rand.Uint32() }
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%08x%04x", r(), r()>>16, r()>>20, r()>>20, r(), r()>>16)
}

func quantiles(times []time.Duration) map[string]float64 {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))]) / 1e6 }
	return map[string]float64{"p50": at(0.50), "p99": at(0.99), "max": at(1)}
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
