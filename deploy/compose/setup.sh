# What a new cluster needs before programs come; again, it changes nothing. Run by the service `setup`.
key=/var/lib/hopwatch/key/pseudonyms
if [ ! -s "$key" ]; then
    umask 077
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$key.new"
    mv "$key.new" "$key"
fi
hopwatch topics create
for program in agent detect store apply alerts; do
    hopwatch topics grant "$program" "$program" --password-file "/run/secrets/kafka-$program"
done
