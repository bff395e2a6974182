// A site's own program, written before it knew of playcounts: it tells of each play in JSON of its own, and sends some twice
// because it was not sure that the first had arrived. It takes the address of an nsqd, and a number of plays.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/nsqio/go-nsq"
)

type video struct {
	HashedID string `json:"hashed_id"`
	Name     string `json:"name"`
	Seconds  int    `json:"duration"`
}

type event struct {
	ID    string `json:"id"`
	At    int64  `json:"at"` // ms
	Video video  `json:"video"`
}

type message struct {
	Type   string            `json:"type"`
	Event  event             `json:"event"`
	Viewer map[string]string `json:"viewer"`
}

var library = []video{
	{"e4a27b971d", "Quarterly review, the long version", 3121},
	{"5wvt1y8u2c", "Getting started", 94},
	{"q0x8r2m1zt", "Кино: \"первый\" <урок>", 610},
	{"26sk4lmiix", "Getting better", 120},
}

func main() {
	plays, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	producer, err := nsq.NewProducer(os.Args[1], nsq.NewConfig())
	if err != nil {
		log.Fatal(err)
	}
	producer.SetLoggerLevel(nsq.LogLevelError)
	for play := 0; play < plays; play++ {
		body, err := json.Marshal(message{
			Type:   "video.play",
			Event:  event{"session-" + strconv.Itoa(play/10) + "#" + strconv.Itoa(play%10), time.Now().UnixMilli(), library[play%len(library)]},
			Viewer: map[string]string{"agent": "Mozilla/5.0 (X11; Linux x86_64)", "country": "DE"},
		})
		if err != nil {
			log.Fatal(err)
		}
		for times := 0; times == 0 || times == 1 && play%7 == 0; times++ {
			if err := producer.Publish("plays", body); err != nil {
				log.Fatal(err)
			}
		}
	}
	producer.Stop()
}
