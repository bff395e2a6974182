// What is asked before something is done to a topic or channel, and the messages that are peeked at.

import { count, duration, element, setText, time } from "./format.js";
import { Grid, labelled, newError, newTokenField, pushButton } from "./queue_grid.js";

const ACTIONS = [
  ["pause", "Pause: consumers get nothing until it is unpaused"],
  ["unpause", "Unpause"],
  ["empty", "Empty: throw its messages away"],
  ["delete", "Delete it with its messages"],
];
const TOMBSTONE = ["tombstone", "Tombstone: nsqlookupd hides this nsqd for a while from those who ask for the topic"];
const CREATE = ["create", "Create a topic, or a channel of a topic"];


// Asks what to do, for the name once more, and for the token.
export class Dialog {
  constructor({ fetchJson, writeToken, onDone }) {
    this.dialog = element("dialog", "card");
    this.form = element("form");
    this.title = element("h3");
    this.title.id = "touch-title";
    this.dialog.setAttribute("aria-labelledby", this.title.id);
    this.action = element("select");
    this.topic = element("input");
    this.channel = element("input");
    for (const field of [this.topic, this.channel]) {
      field.autocomplete = "off";
      field.spellcheck = false;
      field.maxLength = 64;
      field.addEventListener("input", () => this.name());
    }
    this.made = element("div");
    this.made.append(labelled("Topic", this.topic), labelled("Channel (leave it empty to create only the topic)", this.channel));
    this.confirm = element("input");
    this.confirm.autocomplete = "off";
    this.confirm.spellcheck = false;
    this.confirm.required = true;
    this.token = newTokenField(true);
    this.error = newError();
    this.label = labelled("", this.confirm);
    const buttons = element("p", "tools");
    const cancel = pushButton("Cancel", "", () => this.dialog.close());
    const go = element("button", "danger", "Do it");
    buttons.append(cancel, go);
    this.form.append(this.title, labelled("What to do", this.action), this.made, this.label, labelled("Write token", this.token), this.error, buttons);
    this.dialog.append(this.form);
    this.form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      this.error.hidden = true;
      const { nsqd, topic, channel } = this.named();
      try {
        await fetchJson("api/queue", {
          method: "POST",
          headers: { Authorization: `Bearer ${this.token.value}` },
          body: JSON.stringify({ action: this.action.value, nsqd, topic, channel, confirm: this.confirm.value }),
        });
        writeToken.set(this.token.value);
        this.dialog.close();
        onDone();
      } catch (error) {
        setText(this.error, error.message);
        this.error.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
    this.writeToken = writeToken;
  }

  // What it is done to; of something new, what is typed.
  named() {
    if (this.target.name) return this.target;
    const [topic, channel] = [this.topic.value.trim(), this.channel.value.trim() || null];
    return { ...this.target, topic, channel, name: channel ? `${topic}/${channel}` : topic };
  }

  name() {
    setText(this.label.firstElementChild, `Type ${this.named().name || "its name"} to confirm`);
  }

  // Without a name: something new is to be created.
  open(target, tombstones) {
    this.target = target;
    const isNew = !target.name;
    setText(this.title, isNew ? `Create at ${target.nsqd}` : `${target.name} at ${target.nsqd}`);
    const actions = isNew ? [CREATE] : tombstones && !target.channel ? [...ACTIONS, TOMBSTONE] : ACTIONS;
    this.action.replaceChildren(...actions.map(([name, text]) => new Option(text, name)));
    this.made.hidden = !isNew;
    this.topic.required = isNew;
    [this.topic.value, this.channel.value] = ["", ""];
    this.name();
    this.confirm.value = "";
    this.token.value = this.writeToken.get();
    this.error.hidden = true;
    this.dialog.showModal();
  }
}

const MESSAGE_COLUMNS = [["Published"], ["Attempts", true], ["Id"], ["Bytes", true], ["Body"]];

// Shows the messages of a topic that pass by while it asks.
export class PeekDialog {
  constructor({ fetchJson, writeToken }) {
    this.dialog = element("dialog", "card wide");
    const form = element("form");
    this.title = element("h3");
    this.title.id = "peek-title";
    this.dialog.setAttribute("aria-labelledby", this.title.id);
    const note = element("p", "note", "Shows what is published from now on, for up to three seconds. Every channel still gets these messages. The attempts shown are those of this peek.");
    this.limit = element("select");
    ["1", "5", "10", "20"].forEach((number) => this.limit.append(new Option(number, number)));
    this.limit.value = "10";
    this.token = newTokenField(false);
    this.error = newError();
    this.said = element("p", "note");
    this.said.setAttribute("role", "status");
    this.messages = new Grid("Messages", MESSAGE_COLUMNS);
    const buttons = element("p", "tools");
    const go = element("button", "", "Peek");
    buttons.append(pushButton("Close", "", () => this.dialog.close()), go);
    form.append(this.title, note, labelled("At most", this.limit), labelled("Write token, where there is one", this.token), this.error, this.said, this.messages.box, buttons);
    this.dialog.append(form);
    this.writeToken = writeToken;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { nsqd, topic } = this.target;
      go.disabled = true;
      this.error.hidden = true;
      this.messages.show([]);
      setText(this.said, "Waiting for messages…");
      const token = this.token.value;
      try {
        const answer = await fetchJson("api/queue/peek", {
          method: "POST",
          headers: token ? { Authorization: `Bearer ${token}` } : {},
          body: JSON.stringify({ nsqd, topic, limit: Number(this.limit.value) }),
        });
        if (token) writeToken.set(token);
        this.show(answer);
      } catch (error) {
        setText(this.said, "");
        setText(this.error, error.message);
        this.error.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
  }

  show({ messages, waited_ms: waited }) {
    this.messages.box.hidden = messages.length === 0;
    const number = messages.length === 0 ? "No message" : messages.length === 1 ? "1 message" : `${messages.length} messages`;
    setText(this.said, `${number} in ${duration(waited)}.`);
    this.messages.show(messages.map(({ id, published_at: at, attempts, body, bytes: size }) => ({
      key: id,
      cells: [time(at), count(attempts), id, count(size), body],
    })));
  }

  open(target) {
    this.target = target;
    setText(this.title, `Peek at ${target.name} at ${target.nsqd}`);
    this.token.value = this.writeToken.get();
    this.error.hidden = true;
    this.messages.box.hidden = true;
    setText(this.said, "");
    this.dialog.showModal();
  }
}
