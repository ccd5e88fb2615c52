"use strict";
/* The API of the server that the page is from. */

/* What went wrong, in one line that a person can read. */
class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/* key() -> what the server has to be told, or "" */
function makeApi(key) {
  async function ask(path, options = {}) {
    const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer; it may have been stopped.");
    }
    if (answer.ok) return answer;
    let line = `The server answered ${answer.status}.`;
    try {
      line = (await answer.json()).detail;
    } catch {
      // not one of ours: the number has to do
    }
    throw new Refused(answer.status, line);
  }

  /* Server-sent events, as they come. By fetch, since an EventSource cannot send a key. */
  async function* events(path) {
    const answer = await ask(path);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s)));
        if (fields.has("data")) yield { kind: fields.get("event"), data: JSON.parse(fields.get("data")) };
      }
    }
  }

  const json = async (path, options) => (await ask(path, options)).json();
  return { ask, json, events };
}
