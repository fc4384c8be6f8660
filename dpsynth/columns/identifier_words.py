"""Words by which columns of identifiers are called in the languages of Europe: accents folded, small letters."""

__all__ = ["CODES", "COUNTED", "DIRECT", "FILLERS", "LISTS", "NUMBERS", "PLACES", "STEMS", "STRONG", "WORDS"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG = _words(
    "id ids uid uuid guid identifier identifiant identifiants identificador identificativo identyfikator ident "
    "identifikator identifikation kennung tunnus tunniste azonosito azonositoja iden pseudonym pseudonyme "
    "pseudonimo pseudo αναγνωριστικο идентификатор ідентифікатор ид"
)
"""What says by itself that a column tells things apart."""

NUMBERS = _words(
    "nr no num nummer number numer numero numeri nombre n cislo szam szama kod kodas code codigo codice codi key "
    "schluessel schlussel cle clave chiave sleutel klucz nyckel nogle avain klic kulcs hash αριθμοσ κωδικοσ номер "
    "код sifra broj stevilka stevilo numar numarul numur numurs numeris number arv"
)
"""What says so beside the word for a patient or a visit: ``PatNr``, ``numero_paciente``, ``kod_pacjenta``."""

WORDS: dict[str, frozenset[str]] = {
    "person": _words(
        "p pt pts pat subj subject subjekt mrn empi mpi nhs ssn sno randid usubjid subjid eid person persona "
        "persone personne pessoa persoon osoba oseba isik henkilo asmuo szemely ατομο προσωπο persoana member "
        "memberid mem participant partecipante participante deelnemer deltagare deltager osallistuja beneficiary "
        "bene enrollee client user proband probandin versicherter versicherten insured hasta beteg bolnik "
        "sjuklingur othar gaixo utente assistito ipp nhc nir dni bsn cpr fnr hetu henkilotunnus pesel cnp egn oib "
        "emso taj amka niss insz ahv avs svnr kvnr tckn kennitala personnummer fodselsnummer isikukood rodne "
        "rodnecislo ppsn ασθενησ ασθενουσ ασθενων αμκα пациент пациента пацієнт пацієнта егн desynpuf resident "
        "individual individuo asmens personas doente cip enrol enrolid fiscale asthenis lop lopnr lopnummer lopenr "
        "lopenummer henkilonumero betegazonosito"
    ),
    "record": _words("record rec dossier cartella fascicolo expediente historia processo sample specimen study"),
    "visit": _words(
        "visit encounter enc stay hadm icustay admission adm hospitalization hospitalisation episode spell case "
        "claim clm contact attendance appointment consultation event exam fall faelle aufenthalt aufnahme "
        "behandlung behandlungsfall besuch kontakt sejour hospitalisation venue visite passage iep nda prise "
        "episodio ingreso ingresso visita estancia atencion consulta asistencia ricovero accesso nosologico sdo "
        "internamento internacao atendimento urgencia opname verblijf bezoek opnamenr pobyt hospitalizacja wizyta "
        "przypadek vardtillfalle vardkontakt besok indlaeggelse forlob besog innleggelse opphold konsultasjon "
        "kaynti hoitojakso jakso kasunti hospitalizace navsteva pripad pripadu hospitalizacia eset felvetel apolas "
        "latogatas kezeles επισκεψη νοσηλεια εισαγωγη internare vizita vizite vizitas posjet obisk boravak visiit "
        "haigusjuht basvuru yatis прием посещение госпитализация koma lega accession exposure occurrence "
        "measurement csn har transfer order prescription referral dispensing apolasi"
    ),
    "row": _words(
        "row rows rownum rowid rownumber index idx line seq sequence unnamed obs observation lfd zeile zeilen "
        "laufende ligne fila linea riga rij regel wiersz rad raekke rivi radek sor rand linha γραμμη строка"
    ),
    "group": _words("family familie famille familia famiglia household haushalt cluster pair twin litter"),
    "staff": _words(
        "doctor physician provider npi clinician nurse surgeon therapist practitioner arzt aerztin medecin medico "
        "arts lekarz lakare laege lege laakari lekar orvos γιατροσ doktor operator author"
    ),
}
"""Words for what a column tells apart. A name with two of them is of the one that the language puts last."""

STEMS = {
    "person": tuple(
        _words(
            "patient pacient pacjent pazient pazjent patsient pasient pacijent pasjent potila paciens participant "
            "personnum personennum versichert beneficiar teilnehm ασθεν пациент пацієнт"
        )
    ),
    "visit": tuple(
        _words(
            "encounter admission hospitali aufenthalt aufnahme vardtillf vardkont indlaeg innlegg hoitojak episod "
            "ricover behandlungsfall fallnum fallnr fallid visitocc νοσηλει επισκεψ"
        )
    ),
}
"""Beginnings of compounds and inflected forms: ``Patientennummer``, ``pacjenta``, ``potilaan``."""

FILLERS = _words("source value original hashed encrypted encoded masked internal external unique new old")
"""What may stand beside such words without changing what they name."""

COUNTED = _words(
    "visits encounters stays admissions episodes cases claims falls rows patients persons subjects members clients "
    "users participants records"
)
"""Plurals in English are counted: ``num_visits`` and ``patients`` are no identifiers."""

PLACES = _words(
    "hospital site ward station unit department dept center centre clinic klinik facility organization "
    "organisation org practice location care payer insurer country region zip plz postal postcode city room bed "
    "krankenhaus abteilung hopital service etablissement reparto ospedale centro hospitales afdeling ziekenhuis "
    "oddzial szpital avdelning sjukhus afdeling sygehus sykehus osasto sairaala oddeleni nemocnice osztaly korhaz "
    "τμημα νοσοκομειο device scanner lab batch plate"
)
"""What groups patients without telling them apart."""

LISTS = _words("concept type category status")
"""What makes a code even of a patient: ``patient_type_id``."""

CODES = LISTS | _words(
    "icd atc loinc snomed ndc cpt hcpcs drg ops pzn gtin drug medication product item procedure diagnosis diag "
    "test lab unit class gender race ethnicity version generic brand revenue modifier"
)
"""What names a list that others keep: codes are categories."""

DIRECT = _words(
    "name names surname forename firstname lastname fullname vorname nachname familienname nom prenom nombre "
    "nombres apellido apellidos cognome nome sobrenome apelido naam voornaam achternaam imie nazwisko namn fornamn "
    "efternamn navn fornavn etternavn efternavn nimi sukunimi etunimi jmeno prijmeni nev ονομα επωνυμο имя фамилия "
    "email mail phone telephone telefon telefono telefoon telefone tel mobile handy fax address adresse adres "
    "adress direccion indirizzo endereco osoite cim street strasse rue calle via iban passport licence license ip "
    "url"
)
"""What names a person outright and is no key: never learned, proposed as the patient only where nothing else is."""
