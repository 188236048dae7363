// bullmq on node: the same work (work.py) and the same orders (stage.py) in its own language.
// node bullmq.js worker|client CONFIG
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const { Queue, QueueEvents, Worker, Job } = require("bullmq");

const [role, given] = process.argv.slice(2);
const config = JSON.parse(given);
const { hostname, port } = new URL(config.url);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
const NAME = "one";
const AT_A_TIME = 100;
const BULK = 1000;
const LOOK_EVERY_MS = 20;

const payload = (number, pad) => (pad ? { n: number, pad: "x".repeat(pad) } : { n: number });
const expected = (number, pad) => ({ ...payload(number, pad), n: 2 * number });
const same = (a, b) => a !== null && typeof a === "object" && a.n === b.n && a.pad === b.pad;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let marked = false;
function double(data) {
  if (!marked) {
    marked = true;
    fs.writeFileSync(path.join(config.scratch, `first-${process.pid}`), String(Date.now() / 1000));
  }
  return { ...data, n: 2 * data.n };
}

function work() {
  const worker = new Worker(NAME, async (job) => double(job.data), { connection, concurrency: config.concurrency });
  worker.on("error", (error) => console.error(error));
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

class Client {
  constructor() {
    this.queue = new Queue(NAME, { connection });
    this.events = new QueueEvents(NAME, { connection });
    this.started = [];
  }

  async open() {
    await this.queue.waitUntilReady();
    await this.events.waitUntilReady();
  }

  async about() {
    return { bulk: BULK, at_a_time: AT_A_TIME, durable: false };
  }

  async enqueue({ n, how, pad = 0 }) {
    const [began, clock] = [Date.now() / 1000, performance.now()];
    const jobs = await (how === "bulk" ? this.bulk(n, pad) : this.single(n, pad));
    const seconds = (performance.now() - clock) / 1000;
    jobs.forEach((id, number) => this.started.push({ id, number, pad }));
    return { began, seconds };
  }

  async single(n, pad) {
    const ids = new Array(n);
    let next = 0;
    const emitter = async () => {
      while (next < n) {
        const number = next++;
        ids[number] = (await this.queue.add(NAME, payload(number, pad))).id;
      }
    };
    await Promise.all(Array.from({ length: Math.min(AT_A_TIME, n) }, emitter));
    return ids;
  }

  async bulk(n, pad) {
    const ids = [];
    for (let first = 0; first < n; first += BULK) {
      const jobs = [];
      for (let number = first; number < Math.min(first + BULK, n); number++) {
        jobs.push({ name: NAME, data: payload(number, pad) });
      }
      for (const job of await this.queue.addBulk(jobs)) ids.push(job.id);
    }
    return ids;
  }

  async wait({ within_s }) {
    let [ended, progress] = [-1, Date.now()];
    for (;;) {
      const now = await this.queue.getJobCountByTypes("completed", "failed");
      if (now >= this.started.length) return { at: Date.now() / 1000 };
      if (now > ended) [ended, progress] = [now, Date.now()];
      else if (Date.now() - progress > within_s * 1000) {
        throw new Error(`${this.started.length} were started, ${now} have ended, none in ${within_s} s`);
      }
      await sleep(LOOK_EVERY_MS);
    }
  }

  async check() {
    for (let first = 0; first < this.started.length; first += BULK) {
      const chunk = this.started.slice(first, first + BULK);
      const jobs = await Promise.all(chunk.map(({ id }) => Job.fromId(this.queue, id)));
      for (const [at, { number, pad }] of chunk.entries()) {
        const found = jobs[at] && jobs[at].returnvalue;
        if (!jobs[at] || !same(found, expected(number, pad))) {
          return { wrong: `one number ${number} gave ${JSON.stringify(found)}` };
        }
      }
    }
    return { wrong: "", checked: this.started.length };
  }

  async result(job) {
    return job.waitUntilFinished(this.events);
  }

  async latency({ n }) {
    const ms = [];
    for (let number = 0; number < n; number++) {
      const began = performance.now();
      const job = await this.queue.add(NAME, payload(number, 0));
      const output = await this.result(job);
      ms.push(performance.now() - began);
      this.started.push({ id: job.id, number, pad: 0 });
      if (!same(output, expected(number, 0))) throw new Error(`number ${number} gave ${JSON.stringify(output)}`);
    }
    return { ms };
  }

  async children({ n, times }) {
    const ms = [];
    for (let time = 0; time < times; time++) {
      const began = performance.now();
      const datas = Array.from({ length: n }, (_, number) => ({ name: NAME, data: payload(number, 0) }));
      const jobs = await this.queue.addBulk(datas);
      const outputs = await Promise.all(jobs.map((job) => this.result(job)));
      ms.push(performance.now() - began);
      jobs.forEach((job, number) => this.started.push({ id: job.id, number, pad: 0 }));
      outputs.forEach((output, number) => {
        if (!same(output, expected(number, 0))) throw new Error(`child ${number} gave ${JSON.stringify(output)}`);
      });
    }
    return { ms };
  }
}

async function obey() {
  const client = new Client();
  await client.open();
  const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, ...order } = JSON.parse(line);
    try {
      say(await client[name](order));
    } catch (error) {
      say({ error: String(error) });
    }
  }
  process.exit(0);
}

if (role === "worker") work();
else obey();
