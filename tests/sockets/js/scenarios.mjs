// MQTT.js against a broker: node scenarios.mjs '{"url":…, "level":…, "prefix":…, "ca":…}'
// Prints one line a step that held ("ok STEP"); prints "gone? CLIENT" and waits for a line on standard input where it
// has to know that the broker saw a client leave. Any failure is an exception and exit code 1.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import mqtt from 'mqtt'

const { url, level, prefix, ca } = JSON.parse(process.argv[2])
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** A connected client whose messages wait in a queue. */
async function open (clientId, more = {}) {
  const client = await mqtt.connectAsync(url, {
    clientId,
    protocolVersion: level,
    protocolId: level === 3 ? 'MQIsdp' : 'MQTT',
    reconnectPeriod: 0,
    connectTimeout: 30000,
    ca: ca ? [readFileSync(ca)] : undefined,
    ...more
  })
  const waiting = []
  const readers = []
  client.on('message', (topic, payload, packet) => {
    const reader = readers.shift()
    reader ? reader(packet) : waiting.push(packet)
  })
  client.on('error', error => { throw error })
  client.next = () => waiting.length ? Promise.resolve(waiting.shift()) : new Promise(resolve => readers.push(resolve))
  return client
}

const seen = packet => [packet.topic, packet.payload.toString(), packet.qos, packet.retain]

async function roundTrip () {
  const client = await open(prefix)
  const properties = level === 5 ? { contentType: 'text/plain', userProperties: { colour: 'red' } } : undefined
  await client.subscribeAsync(`${prefix}/+`, { qos: 2 })
  for (const qos of [0, 1, 2]) {
    await client.publishAsync(`${prefix}/${qos}`, `payload ${qos}`, { qos, properties })
    const packet = await client.next()
    assert.deepEqual(seen(packet), [`${prefix}/${qos}`, `payload ${qos}`, qos, false])
    if (level === 5) {
      assert.equal(packet.properties.contentType, 'text/plain')
      assert.equal(packet.properties.userProperties.colour, 'red')
    }
  }
  await client.endAsync()
}

async function retained () {
  const publisher = await open(prefix + 'a')
  await publisher.publishAsync(`${prefix}/kept`, 'state', { qos: 1, retain: true })
  await publisher.endAsync()
  const client = await open(prefix + 'b')
  await client.subscribeAsync(`${prefix}/#`, { qos: 1 })
  assert.deepEqual(seen(await client.next()), [`${prefix}/kept`, 'state', 1, true])
  await client.publishAsync(`${prefix}/kept`, '', { qos: 1, retain: true })
  assert.deepEqual(seen(await client.next()), [`${prefix}/kept`, '', 1, false])
  await client.endAsync()
}

async function willOnAbruptEnd () {
  const watcher = await open(prefix + 'a')
  await watcher.subscribeAsync(`${prefix}/will`, { qos: 1 })
  const doomed = await open(prefix + 'b', { will: { topic: `${prefix}/will`, payload: 'gone', qos: 1 } })
  doomed.stream.destroy()
  assert.deepEqual(seen(await watcher.next()), [`${prefix}/will`, 'gone', 1, false])
  await doomed.endAsync(true)
  await watcher.endAsync()
}

async function cleanDisconnect () {
  const watcher = await open(prefix + 'a')
  await watcher.subscribeAsync(`${prefix}/#`, { qos: 1 })
  const polite = await open(prefix + 'b', { will: { topic: `${prefix}/will`, payload: 'gone', qos: 1 } })
  await polite.endAsync()
  console.log(`gone? ${prefix}b`)
  await lines.next()
  await watcher.publishAsync(`${prefix}/marker`, 'no will before this', { qos: 1 })
  assert.equal((await watcher.next()).topic, `${prefix}/marker`)
  await watcher.endAsync()
}

for (const step of [roundTrip, retained, willOnAbruptEnd, cleanDisconnect]) {
  await step()
  console.log(`ok ${step.name}`)
}
process.exit(0)
