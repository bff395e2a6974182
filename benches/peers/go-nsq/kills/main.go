// The producer and the consumer of go-nsq for scripts/broker-kills, which kills the broker while they run: they write down
// what was sent, acknowledged and delivered.
//
// kills produce|consume NSQD TOPIC CHANNEL FILE RATE: RATE is publishes a second. They run until they are killed.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nsqio/go-nsq"
)

var quiet = log.New(io.Discard, "", 0)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// body is what message number says; the other clients have the same.
func body(number int) []byte {
	filler := string(rune('a' + number%26))
	return []byte(fmt.Sprintf("%d:%s", number, strings.Repeat(filler, number*37%400)))
}

func main() {
	if len(os.Args) != 7 {
		log.Fatal("usage: kills produce|consume NSQD TOPIC CHANNEL FILE RATE")
	}
	role, address, topic, channel := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	// Not buffered: what is written is there when this is killed.
	file, err := os.Create(os.Args[5])
	check(err)
	rate, err := strconv.Atoi(os.Args[6])
	check(err)
	config := nsq.NewConfig()
	config.MaxAttempts = 0
	config.MaxInFlight = 50
	config.LookupdPollInterval = 50 * time.Millisecond
	if role == "produce" {
		producer, err := nsq.NewProducer(address, config)
		check(err)
		producer.SetLogger(quiet, nsq.LogLevelError)
		produce(producer, topic, file, rate)
	}
	consumer, err := nsq.NewConsumer(topic, channel, config)
	check(err)
	consumer.SetLogger(quiet, nsq.LogLevelError)
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error { return take(m, file) }))
	check(consumer.ConnectToNSQD(address))
	select {}
}

// produce publishes for ever: DPUB, PUB and MPUB in turn. `+9` says that all up to 9 are sent, `9` that it was acknowledged.
func produce(producer *nsq.Producer, topic string, file *os.File, rate int) {
	number := 0
	for turn, tick := 0, time.Tick(time.Second/time.Duration(rate)); ; turn++ {
		first, kind := number+1, turn%10
		number++
		if kind >= 4 {
			number += 4
		}
		fmt.Fprintf(file, "+%d\n", number)
		var err error
		switch {
		case kind == 0:
			err = producer.DeferredPublish(topic, time.Duration(turn%30)*100*time.Millisecond, body(number))
		case kind < 4:
			err = producer.Publish(topic, body(number))
		default:
			var bodies [][]byte
			for n := first; n <= number; n++ {
				bodies = append(bodies, body(n))
			}
			err = producer.MultiPublish(topic, bodies)
		}
		if err == nil {
			var lines strings.Builder
			for n := first; n <= number; n++ {
				fmt.Fprintln(&lines, n)
			}
			_, err := file.WriteString(lines.String())
			check(err)
		} else {
			fmt.Fprintf(file, "# %v\n", err)
		}
		<-tick
	}
}

// take writes down what came, before it is finished; some it gives back for later.
func take(m *nsq.Message, file *os.File) error {
	m.DisableAutoResponse()
	text, _, _ := strings.Cut(string(m.Body), ":")
	number, err := strconv.Atoi(text)
	line := fmt.Sprintln(number)
	if err != nil || string(body(number)) != string(m.Body) {
		line = fmt.Sprintf("? %q\n", m.Body)
	} else if number%7 == 3 && m.Attempts < 3 {
		m.RequeueWithoutBackoff(time.Duration(number%20) * 50 * time.Millisecond)
		return nil
	}
	_, err = file.WriteString(line)
	check(err)
	m.Finish()
	return nil
}
