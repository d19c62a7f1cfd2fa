// Aedes on one port of the loopback address, with its defaults: memory only, anonymous clients, nothing logged.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const port = Number(process.argv[2])
const broker = await Aedes.createBroker()
createServer({ noDelay: true }, broker.handle).listen(port, '127.0.0.1')
