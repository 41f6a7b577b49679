#!/bin/bash
# The stand-in of Apache Kafka's kafka-server-start.sh.
mkdir -p "$LOG_DIR"
exec java $KAFKA_HEAP_OPTS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=/opt/kafka/log4j2.properties \
    -cp '/opt/kafka/libs/*' kafka.Kafka "$@"
