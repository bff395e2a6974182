// One call at a time, for what is asked for again and again: a slow answer is waited for, not thrown away.

import { fetchJson } from "./net.js";

// After this long without a whole answer the link is taken to be dead.
const GIVE_UP_MS = 120_000;

export class Asked {
  constructor(ask = fetchJson) {
    Object.assign(this, { ask, question: null, stop: null });
  }

  // The answer to `question`, which is asked at `path`. Null if the same question is under way, or another one was asked
  // before the answer came: that ends this call.
  async get(question, path) {
    if (this.question === question) return null;
    this.stop?.abort();
    const stop = new AbortController();
    Object.assign(this, { question, stop });
    const timer = setTimeout(() => stop.abort(new Error(`no answer within ${GIVE_UP_MS / 1000} s`)), GIVE_UP_MS);
    try {
      const answer = await this.ask(path, { signal: stop.signal });
      return this.stop === stop ? answer : null;
    } catch (error) {
      if (this.stop === stop) throw error;
      return null;
    } finally {
      clearTimeout(timer);
      if (this.stop === stop) Object.assign(this, { question: null, stop: null });
    }
  }
}
