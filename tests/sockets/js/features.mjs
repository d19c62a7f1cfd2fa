// MQTT.js and the whole of MQTT 5.0: node features.mjs '{"url":…, "level":…, "prefix":…, "ca":…, "scenario":…}'
// Prints "ok SCENARIO" when it held; any failure is an exception and exit code 1.

import assert from 'node:assert/strict'
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const { url, level, prefix, ca, scenario } = JSON.parse(process.argv[2])

/** A client that has had its CONNACK (`client.connack`); messages, and a DISCONNECT, wait for whom they are for. */
async function open (clientId, more = {}) {
  const client = mqtt.connect(url, {
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
  client.waiting = waiting
  client.on('message', (topic, payload, packet) => {
    const reader = readers.shift()
    reader ? reader(packet) : waiting.push(packet)
  })
  client.next = () => waiting.length ? Promise.resolve(waiting.shift()) : new Promise(resolve => readers.push(resolve))
  client.told = new Promise(resolve => client.once('disconnect', resolve))
  client.closed = new Promise(resolve => client.once('close', resolve))
  const [connack] = await once(client, 'connect')
  client.connack = connack
  client.on('error', error => { if (!client.mayFail) throw error })
  return client
}

const payloads = async (client, count) => {
  const found = []
  while (found.length < count) found.push((await client.next()).payload.toString())
  return found
}
const numbers = count => Array.from({ length: count }, (_, number) => `${number}`)
const kept = level === 5 ? { clean: false, properties: { sessionExpiryInterval: 1000 } } : { clean: false }

/** The client's side of SCRAM-SHA-256 (RFC 5802): its first message, and what answers the server's first and final. */
function scram (name, password) {
  const bare = `n=${name},r=${randomBytes(18).toString('base64').replaceAll(',', '')}`
  const hmac = (key, text) => createHmac('sha256', key).update(text).digest()
  let signature
  return {
    first: `n,,${bare}`,
    final (serverFirst) {
      const { r, s, i } = Object.fromEntries(serverFirst.split(',').map(part => [part[0], part.slice(2)]))
      const salted = pbkdf2Sync(password, Buffer.from(s, 'base64'), Number(i), 32, 'sha256')
      const without = `c=biws,r=${r}`
      const all = [bare, serverFirst, without].join(',')
      const key = hmac(salted, 'Client Key')
      const proof = hmac(createHash('sha256').update(key).digest(), all).map((byte, at) => byte ^ key[at])
      signature = hmac(hmac(salted, 'Server Key'), all).toString('base64')
      return `${without},p=${proof.toString('base64')}`
    },
    check (serverFinal) { assert.equal(serverFinal, `v=${signature}`) }
  }
}

const scenarios = {
  async scram () {
    const authenticationMethod = 'SCRAM-SHA-256'
    for (const password of ['pencil', 'crayon']) {
      const exchange = scram('anna', password)
      const client = mqtt.connect(url, {
        clientId: prefix,
        protocolVersion: 5,
        reconnectPeriod: 0,
        properties: { authenticationMethod, authenticationData: Buffer.from(exchange.first) }
      })
      client.handleAuth = (packet, callback) => {
        const authenticationData = Buffer.from(exchange.final(packet.properties.authenticationData.toString()))
        callback(null, { cmd: 'auth', reasonCode: 24, properties: { authenticationMethod, authenticationData } })
      }
      if (password === 'pencil') {
        const [connack] = await once(client, 'connect')
        assert.equal(connack.properties.authenticationMethod, authenticationMethod)
        exchange.check(connack.properties.authenticationData.toString())
        await client.subscribeAsync(prefix, { qos: 1 })
        await client.endAsync()
      } else {
        const [error] = await once(client, 'error')
        assert.equal(error.code, 0x87)
        await client.endAsync(true)
      }
    }
  },
  async properties () {
    const client = await open(prefix)
    await client.subscribeAsync(prefix, { qos: 2, properties: { subscriptionIdentifier: 268435455 } })
    for (const qos of [0, 1, 2]) {
      await client.publishAsync(prefix, 'grün', {
        qos,
        properties: {
          payloadFormatIndicator: true,
          messageExpiryInterval: 1000,
          contentType: 'text/plain',
          responseTopic: `${prefix}/answer`,
          correlationData: Buffer.from([0, 1, 255]),
          userProperties: { a: ['1', '2'], 'größe': 'ü' }
        }
      })
      const packet = await client.next()
      const { messageExpiryInterval, ...rest } = packet.properties
      assert.equal(packet.payload.toString(), 'grün')
      assert.equal(packet.qos, qos)
      assert.ok(messageExpiryInterval > 0 && messageExpiryInterval <= 1000)
      assert.deepEqual({ ...rest, userProperties: { ...rest.userProperties } }, {
        payloadFormatIndicator: true,
        contentType: 'text/plain',
        responseTopic: `${prefix}/answer`,
        correlationData: Buffer.from([0, 1, 255]),
        userProperties: { a: ['1', '2'], 'größe': 'ü' },
        subscriptionIdentifier: 268435455
      })
    }
    await client.endAsync()
  },

  async topicAliases () {
    const client = await open(prefix, { autoAssignTopicAlias: true, properties: { topicAliasMaximum: 10 } })
    assert.equal(client.connack.properties.topicAliasMaximum, 65535)
    await client.subscribeAsync(`${prefix}/#`, { qos: 1 })
    for (const name of ['a', 'b', 'a', 'c', 'b', 'a']) {
      await client.publishAsync(`${prefix}/${name}`, name, { qos: 1 })
      assert.equal((await client.next()).topic, `${prefix}/${name}`)
    }
    await client.endAsync()
  },

  async subscribeOptions () {
    const client = await open(prefix + 'a')
    const other = await open(prefix + 'b')
    await other.publishAsync(`${prefix}/a`, 'kept', { qos: 1, retain: true })
    await client.subscribeAsync(`${prefix}/a`, { qos: 1, nl: true, rap: true, rh: 2 })
    await client.publishAsync(`${prefix}/a`, 'mine', { qos: 1 })
    await other.publishAsync(`${prefix}/a`, 'other', { qos: 1, retain: true })
    let packet = await client.next()
    assert.deepEqual([packet.payload.toString(), packet.retain], ['other', true])
    await client.subscribeAsync(`${prefix}/a`, { qos: 1, rh: 1 })
    await client.subscribeAsync(`${prefix}/a`, { qos: 1, rh: 0 })
    packet = await client.next()
    assert.deepEqual([packet.payload.toString(), packet.retain], ['other', true])
    await other.publishAsync(`${prefix}/a`, '', { qos: 1, retain: true })
    packet = await client.next()
    assert.deepEqual([packet.payload.toString(), packet.retain], ['', false])
    await client.endAsync()
    await other.endAsync()
  },

  async session () {
    const sent = numbers(30)
    let client = await open(prefix + 'a', kept)
    assert.equal(client.connack.sessionPresent, false)
    await client.subscribeAsync(prefix, { qos: 2 })
    await client.endAsync()
    const other = await open(prefix + 'b')
    for (const [number, payload] of sent.entries()) await other.publishAsync(prefix, payload, { qos: number % 3 })
    client = await open(prefix + 'a', kept)
    if (level !== 3) assert.equal(client.connack.sessionPresent, true)
    const found = await payloads(client, sent.length)
    assert.deepEqual(found.toSorted(), sent.toSorted())
    for (const qos of [0, 1, 2]) {
      const those = sent.filter((_, number) => number % 3 === qos)
      assert.deepEqual(found.filter(payload => those.includes(payload)), those)
    }
    await client.endAsync()
    client = await open(prefix + 'a', { clean: true })
    assert.equal(client.connack.sessionPresent, false)
    await client.endAsync()
    await other.endAsync()
  },

  async takeover () {
    const first = await open(prefix, kept)
    first.mayFail = true
    await first.subscribeAsync(prefix, { qos: 1 })
    const second = await open(prefix, kept)
    if (level === 5) assert.equal((await first.told).reasonCode, 0x8e)
    await first.closed
    if (level !== 3) assert.equal(second.connack.sessionPresent, true)
    await second.publishAsync(prefix, 'mine now', { qos: 1 })
    assert.equal((await second.next()).payload.toString(), 'mine now')
    await second.endAsync()
    await first.endAsync(true)
  },

  async will () {
    const watcher = await open(prefix + 'a')
    await watcher.subscribeAsync(`${prefix}/will`, { qos: 2 })
    for (const willDelayInterval of [0, 1]) {
      const doomed = await open(prefix + 'b', {
        clean: false,
        properties: { sessionExpiryInterval: 1000 },
        will: {
          topic: `${prefix}/will`,
          payload: Buffer.from('gone'),
          qos: 2,
          properties: { willDelayInterval, contentType: 'text/plain', userProperties: { why: 'gone' } }
        }
      })
      doomed.stream.destroy()
      const packet = await watcher.next()
      assert.deepEqual([packet.payload.toString(), packet.qos], ['gone', 2])
      assert.equal(packet.properties.contentType, 'text/plain')
      assert.equal(packet.properties.userProperties.why, 'gone')
      await doomed.endAsync(true)
    }
    await watcher.endAsync()
  },

  async sharedSubscription () {
    const sent = numbers(30)
    const members = [await open(prefix + 'a'), await open(prefix + 'b')]
    for (const member of members) {
      await member.subscribeAsync(`$share/group/${prefix}`, { qos: 1 })
      await member.subscribeAsync(`${prefix}/end`, { qos: 1 })
    }
    for (const payload of sent) await members[0].publishAsync(prefix, payload, { qos: 1 })
    await members[0].publishAsync(`${prefix}/end`, 'end', { qos: 1 })
    const shares = []
    for (const member of members) {
      const share = []
      for (let payload; (payload = (await member.next()).payload.toString()) !== 'end';) share.push(payload)
      assert.ok(share.length)
      shares.push(...share)
    }
    assert.deepEqual(shares.toSorted(), sent.toSorted())
    for (const member of members) await member.endAsync()
  },

  async flowControl () {
    const sent = numbers(10)
    const client = await open(prefix + 'a', { properties: { receiveMaximum: 3 } })
    const held = []
    let holds = true
    let taken = 0
    client.handleMessage = (packet, done) => { taken += 1; holds ? held.push(done) : done() }
    await client.subscribeAsync(prefix, { qos: 1 })
    const other = await open(prefix + 'b')
    for (const payload of sent) await other.publishAsync(prefix, payload, { qos: 1 })
    // MQTT.js reads nothing behind a message that is held, so it is let go one by one: never are more than 3 out.
    const found = []
    while (found.length < sent.length) {
      found.push((await client.next()).payload.toString())
      while (!held.length) await new Promise(resolve => setImmediate(resolve))
      assert.ok(taken - found.length < 3)
      held.shift()()
    }
    holds = false
    assert.deepEqual(found, sent)
    await client.endAsync()
    await other.endAsync()
  },

  async requestResponse () {
    const asks = await open(prefix + 'a')
    const answers = await open(prefix + 'b')
    await answers.subscribeAsync(`${prefix}/ask`, { qos: 1 })
    await asks.subscribeAsync(`${prefix}/answer`, { qos: 1 })
    const correlationData = Buffer.from([0, 255])
    const properties = { responseTopic: `${prefix}/answer`, correlationData }
    await asks.publishAsync(`${prefix}/ask`, 'question', { qos: 1, properties })
    const question = await answers.next()
    await answers.publishAsync(question.properties.responseTopic, 'answer', {
      qos: 1,
      properties: { correlationData: question.properties.correlationData }
    })
    assert.deepEqual((await asks.next()).properties.correlationData, correlationData)
    await asks.endAsync()
    await answers.endAsync()
  },

  async codes () {
    const client = await open('')
    assert.ok(client.connack.properties.assignedClientIdentifier)
    const granted = await client.subscribeAsync({ [`${prefix}/2`]: { qos: 2 }, [`${prefix}/0`]: { qos: 0 } })
    assert.deepEqual(granted.map(one => one.qos), [2, 0])
    const packet = await client.unsubscribeAsync([`${prefix}/2`, `${prefix}/none`])
    assert.deepEqual(packet.granted ?? packet.reasonCode ?? [0, 0x11], [0, 0x11])
    await client.endAsync()
  },

  async limits () {
    const client = await open(prefix, { properties: { requestResponseInformation: true } })
    assert.deepEqual({ ...client.connack.properties }, {
      receiveMaximum: 7,
      maximumQoS: 1,
      retainAvailable: false,
      maximumPacketSize: 2000,
      topicAliasMaximum: 5,
      serverKeepAlive: 77,
      wildcardSubscriptionAvailable: false,
      sharedSubscriptionAvailable: false,
      responseInformation: 'answers/'
    })
    for (const [topic, code] of [['a/+', 0xa2], ['$share/group/a', 0x9e]]) {
      const granted = await client.subscribeAsync(topic).then(given => given.map(one => one.qos), error => error.packet.granted)
      assert.deepEqual(granted, [code])
    }
    client.mayFail = true
    client.publish('a', 'x', { qos: 0, retain: true })
    assert.equal((await client.told).reasonCode, 0x9a)
    await client.closed
    await client.endAsync(true)
  }
}

await scenarios[scenario]()
console.log(`ok ${scenario}`)
process.exit(0)
